"""Opening options of a model, and whether it fits into memory, shown in the sidebar before loading."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from analysis.checkpoints.devices import list_devices
from analysis.checkpoints.loading import DTYPES
from analysis.checkpoints.sources import is_hub_id
from analysis.errors import HeadlampError
from analysis.opening.memory import DEFAULT_CONTEXT, MemoryFit, MemoryNeeds
from analysis.opening.models import ModelRef
from pages.shared import state
from pages.shared.layout import format_size
from pages.shared.resources import check_fit, read_current_ref
from pages.shared.tokens import escape_text
from workbench.models import is_loaded

LONGEST = 10_000_000
"""Largest context for the memory estimate."""


def choose_opening(name: str) -> MemoryFit | None:
    """Device, dtype, a Hub model's revision and the context of the memory estimate; then the estimate.

    Each is in the URL. Returns the model's memory check, None if nothing is known.
    """
    with st.expander("Device and memory", icon=":material/memory:"):
        st.selectbox(
            "Device",
            ["auto", *list_devices()],
            key=state.DEVICE,
            bind="query-params",
            help="auto: the first GPU, else the CPU. balanced: whole layers on each of several GPUs.",
        )
        st.selectbox(
            "dtype",
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
            help="For the memory estimate: two texts of this length side by side.",
        )
        ref = read_current_ref()
        found = None if ref is None else _read_needs(ref)
        if ref is not None and found is not None:
            st.table(format_needs(ref, found), border="horizontal")
    return found


def _read_needs(ref: ModelRef) -> MemoryFit | None:
    """A model's memory needs; the page reports why a model cannot be opened."""
    with suppress(HeadlampError):
        return check_fit(ref)
    return None


def format_needs(ref: ModelRef, found: MemoryFit) -> dict[str, str]:
    """A model's needs and the free memory, as Markdown."""
    needs = found.needs
    verdict = "decode from disk" if ref.streamed else f"{found.verdict}: {found.reason}"
    told = {
        "Parameters": f"{needs.parameters:,}",
        f"Weights in {needs.dtype}": format_size(needs.weights),
        "Of them LM head": format_size(needs.head),
        "To decode": format_size(needs.head_copy + needs.decoding),
        f"Activations, {needs.context:,} tokens": format_size(needs.activations),
        "Most at once": format_size(_most(ref, needs)),
        f"Free on {ref.device}, less 10 %": format_size(found.room),
        "Verdict": "open" if is_loaded(ref) else verdict,
    }
    return {escape_text(name): escape_text(value) for name, value in told.items()}


def describe_fit(ref: ModelRef, found: MemoryFit) -> str:
    """One line that says before loading whether a model fits, as Markdown."""
    needed, free = format_size(_most(ref, found.needs)), format_size(found.room)
    fits = "read from disk" if ref.streamed else "fits" if found.verdict == "load" else found.verdict
    return escape_text(f"{needed} of {free} free on {ref.device}, {found.needs.dtype}: {fits}")


def _most(ref: ModelRef, needs: MemoryNeeds) -> int:
    """Bytes the model takes when opened: in memory, or read from disk."""
    return needs.streamed_peak if ref.streamed else needs.peak
