"""How a model is opened, and whether it fits into memory: said in the sidebar before anything is loaded."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from analysis.checkpoints.devices import present
from analysis.checkpoints.loading import DTYPES
from analysis.checkpoints.sources import is_hub_id
from analysis.errors import HeadlampError
from analysis.opening.memory import DEFAULT_CONTEXT, Fit, Needs
from analysis.opening.models import ModelRef
from pages.shared import state
from pages.shared.layout import size
from pages.shared.resources import current_ref, fit_in_context
from pages.shared.tokens import plain
from workbench.models import is_loaded

LONGEST = 10_000_000
"""Tokens up to which memory can be reckoned; more than any model takes."""


def how_to_open(name: str) -> Fit | None:
    """Device, number format, a Hub model's revision and the context memory is reckoned for; then the needs.

    Each stands in the URL. What is found of the model named so, None where nothing is known of it.
    """
    with st.expander("Device and memory", icon=":material/memory:"):
        st.selectbox(
            "Device",
            ["auto", *present()],
            key=state.DEVICE,
            bind="query-params",
            help="auto: the first GPU, else the CPU. balanced: whole layers on each of several GPUs.",
        )
        st.selectbox(
            "Number format",
            ["auto", *DTYPES],
            key=state.DTYPE,
            bind="query-params",
            help="auto: float32 on the CPU, bfloat16 on an accelerator. Part of every result's key.",
        )
        if is_hub_id(name):
            st.text_input(
                "Revision",
                key=state.REVISION,
                bind="query-params",
                placeholder="main",
                help="A branch, tag or commit of the Hub model.",
            )
        st.number_input(
            "Context in tokens",
            1,
            LONGEST,
            DEFAULT_CONTEXT,
            256,
            key=state.CONTEXT,
            bind="query-params",
            help="What memory is reckoned for: two texts of this length side by side.",
        )
        ref = current_ref()
        found = None if ref is None else _known(ref)
        if ref is not None and found is not None:
            st.table(needs_table(ref, found), border="horizontal")
    return found


def _known(ref: ModelRef) -> Fit | None:
    """What is known of a model's needs; the page says what is wrong with one that cannot be opened."""
    with suppress(HeadlampError):
        return fit_in_context(ref)
    return None


def needs_table(ref: ModelRef, found: Fit) -> dict[str, str]:
    """What a model needs against what is free, as Markdown that says nothing but these words."""
    needs = found.needs
    verdict = "decode from disk" if ref.streamed else f"{found.verdict}: {found.reason}"
    told = {
        "Parameters": f"{needs.parameters:,}",
        f"Weights in {needs.dtype}": size(needs.weights),
        "Of them LM head": size(needs.head),
        "To decode": size(needs.head_copy + needs.decoding),
        f"Activations, {needs.context:,} tokens": size(needs.activations),
        "Most at once": size(_most(ref, needs)),
        f"Free on {ref.device}, less 10 %": size(found.room),
        "Verdict": "open" if is_loaded(ref) else verdict,
    }
    return {plain(name): plain(value) for name, value in told.items()}


def fit_line(ref: ModelRef, found: Fit) -> str:
    """One line that says before loading whether a model fits, as Markdown."""
    needed, free = size(_most(ref, found.needs)), size(found.room)
    fits = "read from disk" if ref.streamed else "fits" if found.verdict == "load" else found.verdict
    return plain(f"{needed} of {free} free on {ref.device}, {found.needs.dtype}: {fits}")


def _most(ref: ModelRef, needs: Needs) -> int:
    """Bytes that the model takes as it is opened: whole, or read from disk."""
    return needs.streamed_peak if ref.streamed else needs.peak
