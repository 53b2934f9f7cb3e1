"""Below a clamp's fields: what its value means, and whether it was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import streamlit as st

from analysis.anatomy.addresses import parse_address
from analysis.errors import ClampError, HeadlampError
from analysis.intervening.clamps import Clamp, parse_clamp
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.errors import show_error
from pages.shared.layout import show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store.errors import StoreError
from store.phrases import describe_changes
from workbench.generating.requests import describe_residual
from workbench.levers.asking import find_best_value, is_measured_set
from workbench.neurons.profiles import SiteProfile, find_neuron_profile


def find_measured(loaded: LoadedModel, address: str, word: str) -> Clamp | None:
    """The clamp by which a neuron raises a word most, as it was measured; None without that, or no neuron."""
    if not word.strip() or not address.strip():
        return None
    with suppress(HeadlampError, StoreError):  # a wrong address is explained beside its field
        neuron = parse_address(address)
        loaded.anatomy.block(neuron)
        return find_best_value(loaded, get_store(), neuron, word)
    return None


def is_measured_together(loaded: LoadedModel, texts: Sequence[str], word: str) -> bool:
    """Whether the whole recipe, as typed, is a set of several neurons that was measured for the word."""
    if not word.strip() or len(texts) < 2:
        return False
    with suppress(HeadlampError, StoreError):  # a wrong clamp is explained beside its fields
        return is_measured_set(loaded, get_store(), tuple(map(parse_clamp, texts)), word)
    return False


def show_value_source(
    text: str,
    best: Clamp | None,
    word: str,
    *,
    take: Callable[[str], None],
    key: str,
    guess: bool,
    together: int = 0,
) -> None:
    """Whether a value was measured for the word, with the way to measure it or to take the measured one.

    best: as find_measured has it. take: puts a clamp's text into the fields. guess: whether nobody chose it.
    together: of how many neurons the measured set is that the recipe holds, 0 if it holds none.
    """
    try:
        clamp = parse_clamp(text)
    except HeadlampError:
        return
    if clamp.mode != "set":
        return
    said = escape_text(word.strip())
    if together:
        st.caption(f"Measured for “{said}” as a set of {together}: each value is that with the others held.")
    elif best == clamp:
        st.caption(f"Measured: of the values swept, this one raises “{said}” most.")
    elif best is not None:
        st.caption(f"Measured: {escape_text(describe_changes([str(best)]))} raises “{said}” most.")
        st.button("Take the measured value", key=f"_recipe_take{key}", on_click=take, args=(str(best),))
    elif word.strip() or guess:
        nothing = f"nothing is measured of it for “{said}” yet" if said else "no word to measure is given"
        st.caption(f"This value is a guess: {nothing}.")
        show_page_link(
            "Measure its dose curve",
            "/neurons",
            icon=":material/show_chart:",
            **{state.NEURON: str(clamp.address), state.WORD: word.strip()},
        )


def check_row(loaded: LoadedModel, text: str, *, profiled: bool) -> None:
    """Below a row: its error, or its raw value and the neuron's own activations."""
    if text.startswith(":"):
        st.caption("Type a neuron's address, or find one on the Neurons page.")
        return
    try:
        clamp = parse_clamp(text)
        block = loaded.anatomy.block(clamp.address)
        if clamp.site == "gate" and not block.gated:
            raise ClampError(f"block {block.address} is plain and has no gate; choose the site key or up")
        if clamp.unit == "residual":
            st.caption(describe_residual(loaded, clamp) + ".")
        elif profiled:
            known = find_neuron_profile(loaded, get_store(), clamp.address)
            _sizes(clamp, None if known is None else known[clamp.site])
        elif clamp.needs_profile:
            st.caption(
                "Its largest activation is measured on the reference text when you first press Generate."
            )
    except (HeadlampError, StoreError) as error:
        show_error(error)


def _sizes(clamp: Clamp, known: SiteProfile | None) -> None:
    if known is None:
        clamp.resolve(largest=0.0, mean=float("nan"))
        st.caption("Its expert is never routed to on the reference text.")
        return
    raw = clamp.resolve(largest=known.largest, mean=known.mean).raw
    st.caption(
        f"Raw **{raw:.4g}** · its max |activation| is {known.largest:.4g}, "
        f"at position 0 {known.first_largest:.4g}"
    )
