"""A pair of texts on a page: found again, or generated while the reader looks on."""

from __future__ import annotations

import time
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from pages.shared.layout import duration, progress_bar
from pages.shared.pair import HOW_TO_READ, pair_slots, show_answers, show_pair, show_word
from pages.shared.reference import profiled
from pages.shared.resources import store
from pages.shared.tokens import plain
from store.errors import StoreError
from store.evidence import TokenChances
from workbench.generating.clamping import Generation, Request, check_request, stored_generation, stream
from workbench.neurons.profiles import is_open

DRAWS_PER_SECOND = 8
"""How often the growing texts are drawn at most."""

_ASKED, _LAST = "_generation_asked", "_generation_last"


@dataclass(frozen=True)
class Asked:
    """What a pair answers: the model, and the request as typed."""

    ref: ModelRef
    request: Request


def ask(asked: Asked) -> None:
    """Remember that this pair was asked for, so that a page interrupted while it grows starts it again."""
    st.session_state[_ASKED] = asked


def is_asked(asked: Asked) -> bool:
    """Whether this pair was asked for, now or in a run that was interrupted."""
    return bool(st.session_state.get(_ASKED) == asked)


def is_measured(loaded: LoadedModel, request: Request) -> bool:
    """Whether every value in × max or from the mean is known. Until then a job measures, shown here.

    A request that cannot be is refused before anything is measured.
    """
    check_request(loaded, request)
    return not any(is_open(clamp) for clamp in request.clamps) or profiled(loaded)


def found_or_generated(loaded: LoadedModel, asked: Asked, *, pressed: bool) -> Generation | None:
    """The finished pair: that of the last look, a stored one, or one generated now if it was asked for."""
    last_asked, last = st.session_state.get(_LAST, (None, None))
    if last is not None and asked == last_asked and not (pressed and last.warning):
        return last
    result = None if pressed else stored_generation(loaded, store(), asked.request)
    if result is None and is_asked(asked):
        st.session_state[_LAST] = (asked, _generated(loaded, asked))
        st.rerun()  # so that what the page showed before the texts, the neurons' sizes, is told anew
    if result is not None:
        st.session_state[_LAST] = (asked, result)
    return result


def last_generation(ref: ModelRef) -> Generation | None:
    """The pair this session saw last, if it is of this model."""
    asked, result = st.session_state.get(_LAST, (None, None))
    return result if asked is not None and asked.ref == ref else None


def _generated(loaded: LoadedModel, asked: Asked) -> Generation:
    """Both texts grow on the page, a few times a second; meanwhile nothing is locked."""
    place, drawn = st.empty(), 0.0
    with place.container():
        writing = progress_bar("Generating", "tokens")
        st.button("Stop", icon=":material/stop:", on_click=_forget)
        slots = pair_slots()
        try:
            for result in stream(loaded, store(), asked.request):
                if time.monotonic() - drawn >= 1 / DRAWS_PER_SECOND:
                    drawn = time.monotonic()
                    writing(_length(result), asked.request.sampling.max_new_tokens)
                    show_texts(loaded, result, slots=slots)
        except (HeadlampError, StoreError):
            place.empty()  # what has failed has nothing to stop
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
    """Both texts after what was fed; a chat model's template stays out of sight."""
    request = result.request
    before = (
        request.answer_prefix if loaded.tokenizer.chat_template else request.prompt + request.answer_prefix
    )
    show_pair(slots, result.base_tokens, result.changed_tokens, before=before, growing=not result.done)


def show_texts_and_word(loaded: LoadedModel, result: Generation) -> None:
    """Both texts, how they came about, and P(word)."""
    if result.warning:
        st.warning(plain(result.warning), icon=":material/save:")
    show_texts(loaded, result, slots=pair_slots())
    st.caption(f"{HOW_TO_READ}  \n{notice(result)}")
    if result.word:
        show_word(result.request.word, *result.word)


def show_answer_position(result: Generation, *, name: str) -> None:
    """The answer position's likeliest tokens. name: tells this chart from others on the page."""
    show_answers([TokenChances(row.token, row.base, row.changed) for row in result.answer], name=name)


def notice(result: Generation) -> str:
    """Time, tokens, seed and reach of a finished pair, as Markdown."""
    sampling = result.request.sampling
    choice = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"
    lengths = f"{len(result.base_ids)} and {len(result.changed_ids)} tokens"
    facts = [f"Done in {duration(result.seconds)}", lengths, f"seed {sampling.seed}", choice]
    reach = [
        f"`{clamp}` {acted_on(covered, acted)}"
        for clamp, covered, acted in zip(
            result.request.clamps, result.reach.covered, result.reach.acted, strict=False
        )
    ]
    if not reach:
        reach = ["no clamp, so both texts are the same"]
    return " · ".join(facts) + ".  \n" + "; ".join(reach) + "."


def acted_on(covered: int, acted: int) -> str:
    """How far a clamp reached, in words."""
    if covered == 0:
        return "covered no position of this text"
    if acted == covered:
        return f"acted on all {covered} positions it covers"
    return (
        f"acted on {acted} of the {covered} positions it covers ({acted / covered:.0%}): where it was routed"
    )
