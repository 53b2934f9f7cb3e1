"""Controls of the Unlearn page: sets that must go on being answered, and what a guard compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import state
from workbench.skills.sources import SkillSource
from workbench.unlearning.presets import KEY_PLACES, MEASURES
from workbench.unlearning.unlearning import UnlearningQuestion

_NEAR = (
    "Questions on the same subject about something else, such as a country's language beside its capital: "
    "how many are refused. Boxes of their probes compete with the forget skill's."
)
_UNLISTED = (
    "Sets that nothing is fitted on, such as multiple choice of other subjects: how many are refused. A "
    " guard that has learned the form of a question refuses these too."
)
_MEASURE = "box: the paper's depth in boxes. gauss: the densities of Gaussians are compared; not the paper's."
_KEY = (
    "Where a query's key is taken. last: the last token fed, the paper's. user_last: the last token that the "
    "user typed, before the chat template's end. user_mean: the mean over what the user typed."
)
_WRAP = "Probes also after a greeting, an instruction and answered examples, on both sides alike."


def show_kept_sets(skills: Mapping[str, SkillSource]) -> None:
    """Near questions and unlisted sets, none by default."""
    near, unlisted = st.columns(2)
    near.multiselect(
        "Near questions", list(skills), key=state.NEAR, bind="query-params", placeholder="none", help=_NEAR
    )
    unlisted.multiselect(
        "Unlisted sets",
        list(skills),
        key=state.UNLISTED,
        bind="query-params",
        placeholder="none",
        help=_UNLISTED,
    )


def show_guard_choices() -> None:
    """What KSD compares, and on what it is fitted."""
    measure, key, wrap = st.columns([2, 2, 2], vertical_alignment="bottom")
    measure.selectbox(
        "KSD compares",
        MEASURES,
        MEASURES.index(UnlearningQuestion.measure),
        key=state.MEASURE,
        bind="query-params",
        help=_MEASURE,
    )
    key.selectbox(
        "Key of a query",
        KEY_PLACES,
        KEY_PLACES.index(UnlearningQuestion.key),
        key=state.KEY_PLACE,
        bind="query-params",
        help=_KEY,
    )
    wrap.toggle("Wrapped probes", UnlearningQuestion.wrap, key=state.WRAP, bind="query-params", help=_WRAP)


def read_kept_sets(skills: Mapping[str, SkillSource]) -> dict[str, Any]:
    """These controls' fields of the question."""
    now = st.session_state
    return {
        "near": tuple(skills[name] for name in now[state.NEAR]),
        "unlisted": tuple(skills[name] for name in now[state.UNLISTED]),
        "measure": now[state.MEASURE],
        "key": now[state.KEY_PLACE],
        "wrap": now[state.WRAP],
    }
