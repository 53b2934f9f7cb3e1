"""A pair of texts on a page: loaded from the store, or generated live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from pages.shared.layout import format_duration, make_progress_bar
from pages.shared.pair import HOW_TO_READ, place_pair, show_answers, show_pair, show_word
from pages.shared.reference import ensure_profiled
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store.errors import StoreError
from store.evidence import TokenChances
from workbench.generating.clamping import Generation, find_pair, stream_pair
from workbench.generating.requests import GenerationRequest, check_request, format_range
from workbench.neurons.profiles import needs_profile

DRAWS_PER_SECOND = 8
"""Smallest interval between redraws of the growing texts."""

_ASKED, _LAST = "_generation_asked", "_generation_last"


@dataclass(frozen=True)
class PairRequest:
    """The identity of a pair: the model, and the request as typed."""

    ref: ModelRef
    request: GenerationRequest


def request_pair(asked: PairRequest) -> None:
    """Remember the requested pair, so that an interrupted page restarts it."""
    st.session_state[_ASKED] = asked


def is_requested(asked: PairRequest) -> bool:
    """Whether this pair was requested, now or in an interrupted run."""
    return bool(st.session_state.get(_ASKED) == asked)


def is_measured(loaded: LoadedModel, request: GenerationRequest) -> bool:
    """Whether every value in × max or from the mean is known. Until then the page shows the profiling job.

    An impossible request is refused before anything is measured.
    """
    check_request(loaded, request)
    return not any(needs_profile(clamp) for clamp in request.clamps) or ensure_profiled(loaded)


def find_or_generate(loaded: LoadedModel, asked: PairRequest, *, pressed: bool) -> Generation | None:
    """The finished pair: the last one shown, a stored one, or one generated now if requested."""
    last_asked, last = st.session_state.get(_LAST, (None, None))
    if last is not None and asked == last_asked and not (pressed and last.warning):
        return last
    result = None if pressed else find_pair(loaded, get_store(), asked.request)
    if result is None and is_requested(asked):
        st.session_state[_LAST] = (asked, _generate(loaded, asked))
        st.rerun()  # so that earlier parts of the page, the neurons' activations, are redrawn
    if result is not None:
        st.session_state[_LAST] = (asked, result)
    return result


def recall_pair(ref: ModelRef) -> Generation | None:
    """The last pair shown in this session, if it belongs to this model."""
    asked, result = st.session_state.get(_LAST, (None, None))
    return result if asked is not None and asked.ref == ref else None


def _generate(loaded: LoadedModel, asked: PairRequest) -> Generation:
    """Generate both texts on the page, redrawn a few times a second; nothing is locked meanwhile."""
    place, drawn = st.empty(), 0.0
    with place.container():
        writing = make_progress_bar("Generating", "tokens")
        st.button("Stop", icon=":material/stop:", on_click=_forget)
        slots = place_pair()
        try:
            for result in stream_pair(loaded, get_store(), asked.request):
                if time.monotonic() - drawn >= 1 / DRAWS_PER_SECOND:
                    drawn = time.monotonic()
                    writing(_length(result), asked.request.sampling.max_new_tokens)
                    show_texts(loaded, result, slots=slots)
        except (HeadlampError, StoreError):
            place.empty()  # what has failed cannot be stopped
            raise
    place.empty()
    return result


def _forget() -> None:
    st.session_state.pop(_ASKED, None)


def _length(result: Generation) -> int:
    return max(len(result.base_ids), len(result.changed_ids))


def show_texts(
    loaded: LoadedModel, result: Generation, *, slots: tuple[DeltaGenerator, DeltaGenerator]
) -> None:
    """Both texts after the prompt; a chat template is not shown."""
    request = result.request
    hidden = bool(loaded.tokenizer.chat_template) and not request.raw
    before = request.answer_prefix if hidden else request.prompt + request.answer_prefix
    show_pair(slots, result.base_tokens, result.changed_tokens, before=before, growing=not result.done)


def show_texts_and_word(loaded: LoadedModel, result: Generation) -> None:
    """Both texts, their metadata, and P(word)."""
    if result.warning:
        st.warning(escape_text(result.warning), icon=":material/save:")
    show_texts(loaded, result, slots=place_pair())
    st.caption(f"{HOW_TO_READ}  \n{describe_pair(result)}")
    if result.word:
        show_word(result.request.word, *result.word)


def show_answer_position(result: Generation, *, name: str) -> None:
    """The answer position's likeliest tokens. name: distinguishes this chart from others on the page."""
    show_answers([TokenChances(row.token, row.base, row.changed) for row in result.answer], name=name)


def describe_pair(result: Generation) -> str:
    """Time, tokens, seed and reach of a finished pair, as Markdown."""
    sampling = result.request.sampling
    choice = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"
    lengths = f"{len(result.base_ids)} and {len(result.changed_ids)} tokens"
    facts = [f"Done in {format_duration(result.seconds)}", lengths, f"seed {sampling.seed}", choice]
    used = result.reach.used
    reach = [
        f"`{clamp}` {describe_reach(covered, acted, used[at] if at < len(used) else ())}"
        for at, (clamp, covered, acted) in enumerate(
            zip(result.request.clamps, result.reach.covered, result.reach.acted, strict=False)
        )
    ]
    if not reach:
        reach = ["no clamp, so both texts are the same"]
    return " · ".join(facts) + ".  \n" + "; ".join(reach) + "."


def describe_reach(covered: int, acted: int, used: Sequence[float] = ()) -> str:
    """How far a clamp reached, in words. used: the raw values it put in, if positions have their own."""
    if covered == 0:
        return "covered no position of this text"
    raw = f", at raw values of {format_range(used)}" if used else ""
    if acted == covered:
        return f"acted on all {covered} positions it covers{raw}"
    part = f"acted on {acted} of the {covered} positions it covers ({acted / covered:.0%})"
    return f"{part}: where it was routed{raw}"
