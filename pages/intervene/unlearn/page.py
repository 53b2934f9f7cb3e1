"""Unlearn: one skill, or one concept, forgotten, the others kept, and both measured."""

from __future__ import annotations

import streamlit as st

from pages.intervene.unlearn.concept_removal import concept_section
from pages.intervene.unlearn.form import asked_for
from pages.intervene.unlearn.results import show_results
from pages.intervene.unlearn.work import answered
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import page_header
from pages.shared.resources import model

WHAT = ("a skill", "a concept")

page_header("Unlearn", "Can the model forget one thing and keep the others, and how sure is that?")
with shown_errors(), model(runs="Unlearning") as loaded:
    what = st.radio(
        "Forget",
        WHAT,
        key=state.REMOVE,
        bind="query-params",
        horizontal=True,
        help="A skill is a set of examples; it is refused, or its neurons are changed (KSD, Neuron Adjust, "
        "selective pruning). A concept is one word; vectors that point at it are turned round (TARS).",
    )
    if what == WHAT[1]:
        concept_section(loaded)
    else:
        question, pressed = asked_for(loaded)
        if question is not None:
            found = answered(loaded, question, pressed=pressed)
            if found is not None:
                show_results(loaded, question, found)
