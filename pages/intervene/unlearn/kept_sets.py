"""Controls of the Unlearn page: sets that must go on being answered, and what a guard compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis.unlearning.guards.key_places import KEY_PLACES
from pages.shared import state
from workbench.skills.sources import SkillSource

MEASURES = ("linear", "box", "gauss")
USUAL = "usual"
KEYS = (USUAL, *KEY_PLACES)
WRAPS = {USUAL: None, "on": True, "off": False}
_NEAR = (
    "Questions on the same subject about something else, such as a country's language beside its capital: "
    "how many are refused. Boxes of their probes compete with the forget skill's."
)
_UNLISTED = (
    "Sets that nothing is fitted on, such as multiple choice of other subjects: how many are refused. A "
    "guard that has learned the form of a question refuses these too."
)
_MEASURE = (
    "linear: a score that is fitted to tell the skill from all that is kept; it holds best where a question "
    "is put in another form. box: the paper's depth in boxes. gauss: the densities of Gaussians."
)
_KEY = (
    "Where a query's key is taken. last: the last token fed, the paper's. user_last: the last token that the "
    "user typed, before the chat template's end. user_mean: the mean over what the user typed. both: last "
    "and user_mean, of a linear guard. usual: both for linear, last for the others."
)
_WRAP = (
    "Probes also after a greeting, an instruction and answered examples, on both sides alike. usual: on for "
    "linear, off for the others, as in the paper."
)


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
    measure.selectbox("KSD compares", MEASURES, key=state.MEASURE, bind="query-params", help=_MEASURE)
    key.selectbox("Key of a query", KEYS, key=state.KEY_PLACE, bind="query-params", help=_KEY)
    wrap.selectbox("Wrapped probes", list(WRAPS), key=state.WRAP, bind="query-params", help=_WRAP)


def read_kept_sets(skills: Mapping[str, SkillSource]) -> dict[str, Any]:
    """These controls' fields of the question."""
    now = st.session_state
    return {
        "near": tuple(skills[name] for name in now[state.NEAR]),
        "unlisted": tuple(skills[name] for name in now[state.UNLISTED]),
        "measure": now[state.MEASURE],
        "key": None if now[state.KEY_PLACE] == USUAL else now[state.KEY_PLACE],
        "wrap": WRAPS[now[state.WRAP]],
    }
