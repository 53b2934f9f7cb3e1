"""The model in three lines: what it is, what is mapped of it, and which bytes they were."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.layout import format_size, shorten_model
from pages.shared.resources import get_store, read_open_facts
from pages.shared.tokens import escape_text
from workbench.models import ModelFacts, measure_model
from workbench.neurons.browsing import read_decoding_state


def show_card(loaded: LoadedModel) -> None:
    """Three lines of Markdown in a frame."""
    facts = read_open_facts() or measure_model(loaded)
    name = escape_text(shorten_model(loaded.ref.name))
    with st.container(border=True):
        st.markdown(
            f"**{name}** {_describe_model(loaded, facts)}  \n{describe_maps(loaded)}  \n"
            f"{_describe_bytes(loaded, facts)}"
        )


def _describe_model(loaded: LoadedModel, facts: ModelFacts) -> str:
    """`is a mixture of experts …: 5.0 M parameters in 4 layers of width 128, …`"""
    what = "a mixture of experts" if facts.experts else "a dense model"
    experts = f" in {facts.experts:,} experts" if facts.experts else ""
    return (
        f"is {what} ({escape_text(facts.architecture)}): {format_count(facts.parameters)} parameters, "
        f"{facts.layers:,} layers of width {facts.d_model:,}, {facts.neurons:,} neurons{experts}, a "
        f"vocabulary of {facts.vocab:,}, a context of {facts.context:,} tokens; {loaded.dtype} on "
        f"{escape_text(str(loaded.device))}."
    )


def describe_maps(loaded: LoadedModel) -> str:
    """Which sites are mapped, in one sentence."""
    states = {site: read_decoding_state(loaded, get_store(), site, "none") for site in loaded.anatomy.sites}
    done = [site for site, found in states.items() if found.finished]
    begun = [
        f"{site} ({found.blocks_done:,} of {found.blocks:,} blocks)"
        for site, found in states.items()
        if found.blocks_done and not found.finished
    ]
    if len(done) == len(states):
        return f"Mapped: every neuron is decoded at {', '.join(done)}."
    if not done and not begun:
        return "Mapped: nothing yet. Words can be searched at once; a map adds every neuron's own tokens."
    rest = [site for site in states if site not in done]
    return f"Mapped: {', '.join([*done, *begun])}; not yet whole: {', '.join(rest)}."


def _describe_bytes(loaded: LoadedModel, facts: ModelFacts) -> str:
    packed = f", {escape_text(loaded.weights_format)}" if loaded.weights_format else ""
    tied = ", head tied to embeddings" if facts.tied else ""
    disk = "" if loaded.streamed is None else ", read from disk layer by layer"
    unused = facts.padding_rows + facts.holes
    notes = "".join(f", {escape_text(note)}" for note in loaded.notes)
    padding = f", {unused:,} padding rows of the head left out" if unused else ""
    return (
        f"Weights: {format_size(facts.bytes)}{packed}{notes}{disk}{tied}{padding}; fingerprint "
        f"`{loaded.fingerprint[:12]}`."
    )


def format_count(number: int) -> str:
    """`5.0 M`"""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)
