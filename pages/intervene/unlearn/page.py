"""Unlearn: remove one skill or one concept, retain the others, and measure both."""

from __future__ import annotations

import streamlit as st

from pages.intervene.unlearn.concept_removal import show_concept_removal
from pages.intervene.unlearn.form import read_unlearn_question
from pages.intervene.unlearn.results import show_results
from pages.intervene.unlearn.work import load_unlearning_answer
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import show_header
from pages.shared.resources import use_model

WHAT = ("a skill", "a concept")

show_header("Unlearn", "Can the model forget one skill and retain the others, and how certain is that?")
with show_errors(), use_model(runs="Unlearning") as loaded:
    what = st.radio(
        "Forget",
        WHAT,
        key=state.REMOVE,
        bind="query-params",
        horizontal=True,
        help="A skill is a set of examples; its queries are refused, or its neurons are changed (KSD, Neuron "
        "Adjust, "
        "selective pruning). A concept is one word; vectors that point at it are reversed (TARS).",
    )
    if what == WHAT[1]:
        show_concept_removal(loaded)
    else:
        question, pressed = read_unlearn_question(loaded)
        if question is not None:
            found = load_unlearning_answer(loaded, question, pressed=pressed)
            if found is not None:
                show_results(loaded, question, found)
