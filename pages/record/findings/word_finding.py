"""Finding of a word's levers or of a sweep: verdict, chart, table, prompts, clamps and recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import state
from pages.shared.layout import show_page_link
from pages.shared.links.stored import StoredRecipe
from pages.shared.word_effects import (
    make_clamp_view,
    show_dose_chart,
    show_dose_table,
    show_lever_chart,
    show_lever_table,
)
from store.evidence import EvidenceView
from store.word_evidence import WordEvidence
from workbench.records import read_odd_record


def show_word_finding(evidence: Mapping[str, Any], shown: EvidenceView) -> None:
    """Everything that the finding holds below its verdict."""
    said = shown.said
    if said.levers:
        show_lever_table(said, key="finding_levers")
        show_lever_chart(said, key="finding_bars")
    neurons = list(dict.fromkeys(dose.neuron for dose in said.doses))
    if neurons:
        one = neurons[0]
        if len(neurons) > 1:
            one = st.selectbox("Neuron", neurons, key="_finding_neuron", width=240)
        show_dose_chart(said, one, key="finding_doses")
        with st.expander("All values", icon=":material/table:"):
            show_dose_table(said, one)
    _show_prompts(said)
    if shown.clamps:
        st.markdown("**Best clamps**")
        st.code("\n".join(shown.clamps), language=None)
    recipe = read_odd_record(StoredRecipe, evidence).recipe
    if recipe:
        with st.expander("Recipe", icon=":material/receipt_long:"):
            st.json(recipe)


def open_word_finding(shown: EvidenceView, model_name: str) -> None:
    """Links to Clamp with the best clamps, and to the word's neurons."""
    said, model = shown.said, {state.MODEL: model_name}
    if shown.clamps:
        best = next((lever for lever in said.levers if lever.clamps == shown.clamps), None)
        view = make_clamp_view(said, shown.clamps, best)
        show_page_link("Clamp it", "/clamp", icon=":material/tune:", **view, **model)
    if said.word:
        levers = {state.LEVERS: "true"} if said.levers else {}
        neuron = {state.NEURON: said.doses[0].neuron} if said.doses else {}
        show_page_link(
            "Open in Neurons",
            "/neurons",
            icon=":material/scatter_plot:",
            **{state.WORD: said.word},
            **levers,
            **neuron,
            **model,
        )


def _show_prompts(said: WordEvidence) -> None:
    if not said.prompts:
        return
    with st.expander("Prompts", icon=":material/format_quote:"):
        rows = [{"used": one.purpose, "prompt": one.line, "system": one.system} for one in said.prompts]
        st.dataframe(rows, hide_index=True)
