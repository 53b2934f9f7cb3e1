"""The pairs of texts of this session: opened again, pinned, laid side by side, and undone."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import streamlit as st

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.running.differences import mark_differences
from pages.intervene.clamp.generated import PairRequest, request_pair
from pages.intervene.clamp.recipe_state import list_clamps, load_recipe
from pages.intervene.clamp.settings import fill_in_request, read_request
from pages.shared import state
from pages.shared.layout import show_caption
from pages.shared.pair import render_text
from pages.shared.tokens import escape_text
from store.phrases import describe_changes
from workbench.generating.clamping import Generation
from workbench.generating.pair_verdicts import describe_word_change, judge_pair

KEPT = 10
"""Pairs kept beside the pinned ones."""
PROMPT_END = 32
"""Characters of a prompt's end in a title."""

_PAST, _NEXT, _TRAIL = "_clamp_past", "_clamp_past_next", "_clamp_trail"
_TRAIL_LENGTH = 50


@dataclass(frozen=True)
class PastPair:
    """A finished pair, what was asked for, and its number in this session."""

    asked: PairRequest
    result: Generation
    number: int
    pinned: bool = False


def record_pair(asked: PairRequest, result: Generation) -> None:
    """Remember a pair that is shown; a known one keeps its place."""
    past: list[PastPair] = st.session_state.get(_PAST, [])
    trail: list[PairRequest] = st.session_state.setdefault(_TRAIL, [])
    if not trail or trail[-1] != asked:
        st.session_state[_TRAIL] = [*trail, asked][-_TRAIL_LENGTH:]
    if any(one.asked == asked for one in past):
        return
    number = st.session_state.get(_NEXT, 0)
    st.session_state[_NEXT] = number + 1
    past = [PastPair(asked, result, number), *past]
    loose = [one.number for one in past if not one.pinned]
    st.session_state[_PAST] = [one for one in past if one.pinned or one.number in loose[:KEPT]]


def list_past(ref: ModelRef) -> list[PastPair]:
    """The pairs of a model: pinned ones first, then the newest first."""
    found = [one for one in st.session_state.get(_PAST, ()) if one.asked.ref == ref]
    return sorted(found, key=lambda one: not one.pinned)


def can_undo(ref: ModelRef) -> bool:
    """Whether there is a pair to go back to."""
    return any(one.ref == ref for one in st.session_state.get(_TRAIL, ()))


def undo_pair(ref: ModelRef, *, chat: bool) -> None:
    """A callback: back to the last pair if anything was changed since; else to the one before it."""
    trail = [one for one in st.session_state.get(_TRAIL, ()) if one.ref == ref]
    now = None
    with suppress(HeadlampError):
        now = PairRequest(ref, read_request(list_clamps(), chat=chat))
    if trail and now == trail[-1]:
        trail.pop()
    if not trail:
        st.toast("There is no pair of texts before this one.", icon=":material/undo:")
        return
    st.session_state[_TRAIL] = trail
    open_pair(trail[-1])


def open_pair(asked: PairRequest) -> None:
    """A callback: fill everything in as it was; the pair is shown again."""
    fill_in_request(asked.request)
    load_recipe(state.SEPARATOR.join(str(clamp) for clamp in asked.request.clamps))
    request_pair(asked)


def show_history(loaded: LoadedModel) -> None:
    """The session's pairs as a list, and two ticked ones side by side."""
    past = list_past(loaded.ref)
    if not past:
        return
    with st.expander("History", key="clamp-history", icon=":material/history:"):
        show_caption(f"The last {KEPT} pairs of this session, newest first; pinned ones stay.")
        ticked = [one for one in past if _show_row(one)]
        if len(ticked) == 2:
            _show_side_by_side(ticked)
        elif len(past) > 1:
            show_caption("Tick two pairs to see their changed texts side by side.")


def write_title(one: PastPair) -> str:
    """`dog 0.5 % → 93 % · Holding L29.N808 at 2.83 × residual · “…animal is the”`."""
    prompt = " ".join(f"{one.asked.request.prompt} {one.asked.request.answer_prefix}".split())
    end = f"…{prompt[-PROMPT_END:]}" if len(prompt) > PROMPT_END else prompt
    parts = [
        describe_word_change(one.result),
        describe_changes(list(map(str, one.asked.request.clamps))),
        f"“{end}”",
    ]
    return " · ".join(part for part in parts if part)


def _show_row(one: PastPair) -> bool:
    """A pair's title, its buttons and its tick; whether it is ticked."""
    st.markdown(escape_text(write_title(one)))
    with st.container(horizontal=True, vertical_alignment="center"):
        ticked = st.checkbox("Side by side", key=f"_past_tick{one.number}", persist_state="session")
        st.button(
            "Open again",
            key=f"_past_open{one.number}",
            help="Fills in all settings of this pair.",
            on_click=open_pair,
            args=(one.asked,),
        )
        st.button(
            "Unpin" if one.pinned else "Pin",
            key=f"_past_pin{one.number}",
            icon=":material/keep_off:" if one.pinned else ":material/keep:",
            on_click=_turn_pin,
            args=(one.number,),
        )
    return ticked


def _turn_pin(number: int) -> None:
    past: list[PastPair] = st.session_state[_PAST]
    st.session_state[_PAST] = [
        replace(one, pinned=not one.pinned) if one.number == number else one for one in past
    ]


def _show_side_by_side(two: list[PastPair]) -> None:
    """The changed texts of two pairs with what differs between them, and what became of the word in each."""
    pieces = mark_differences(two[0].result.changed_tokens, two[1].result.changed_tokens)
    for column, one, marked in zip(st.columns(2), two, pieces, strict=True):
        column.markdown(f"**{escape_text(write_title(one))}**")
        column.html(render_text(marked, before=one.result.request.answer_prefix))
        column.caption(escape_text(judge_pair(one.result)))
    same = all(piece.same for row in pieces for piece in row)
    show_caption(
        "Both changed texts are identical."
        if same
        else "Shaded and underlined: what differs between the two changed texts."
    )
