"""A pair of texts on a page: loaded from the store, or generated live."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.errors import HeadlampError
from analysis.figures.answers import word_path_figure
from analysis.opening.models import LoadedModel, ModelRef
from pages.shared.layout import CHART, format_duration, make_progress_bar, show_caption, show_download
from pages.shared.pair import HOW_TO_READ, format_percent, place_pair, show_answers, show_pair
from pages.shared.reference import ensure_profiled
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from store.errors import StoreError
from store.evidence import TokenChances
from workbench.generating.clamping import Generation, find_pair, stream_pair
from workbench.generating.pair_verdicts import judge_pair, shorten_change
from workbench.generating.requests import GenerationRequest, check_request, format_range
from workbench.generating.token_facts import (
    COLUMNS,
    PairFacts,
    TokenFacts,
    list_fact_rows,
    list_facts,
    write_facts_csv,
)
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
    loaded: LoadedModel,
    result: Generation,
    *,
    slots: tuple[DeltaGenerator, DeltaGenerator],
    facts: PairFacts | None = None,
) -> None:
    """Both texts after the prompt; a chat template is not shown. facts: each token's, shown over it."""
    request = result.request
    hidden = bool(loaded.tokenizer.chat_template) and not request.raw
    before = request.answer_prefix if hidden else request.prompt + request.answer_prefix
    notes: tuple[list[str], list[str]] = ([], [])
    if facts is not None:
        base, changed = (
            [_write_note(one, other, request.word.strip()) for one in row]
            for row, other in zip(facts, ("changed", "base"), strict=True)
        )
        notes = (base, changed)
    tokens = result.base_tokens, result.changed_tokens
    show_pair(slots, *tokens, before=before, growing=not result.done, notes=notes)


def _write_note(one: TokenFacts, other: str, word: str) -> str:
    """What is shown over a token. other: what the other text is called."""
    said = f"{show_token(one.token)}: {format_percent(one.own)}"
    if one.other is not None:
        said += f", in the {other} text {format_percent(one.other)}"
    return said if one.word is None else f"{said}\nP({word}) before it: {format_percent(one.word)}"


def show_texts_and_verdict(loaded: LoadedModel, result: Generation) -> None:
    """The verdict in words, both texts, their metadata, and P(word) along the texts."""
    if result.warning:
        st.warning(escape_text(result.warning), icon=":material/save:")
    st.markdown(f"**{escape_text(judge_pair(result))}**")
    facts = list_facts(loaded, result)
    show_texts(loaded, result, slots=place_pair(), facts=facts)
    hover = "" if facts is None else " Hold the mouse over a token for its probability."
    placed = f"  \n{escape_text(result.place.said)}" if result.word and result.place else ""
    st.caption(f"{HOW_TO_READ}{hover}{placed}  \n{describe_pair(result)}")
    if result.word:
        show_word_path(loaded, result)


def show_token_table(loaded: LoadedModel, result: Generation) -> None:
    """The probability of every token of both texts, as a table and CSV: what the mouse shows, in numbers."""
    facts = list_facts(loaded, result)
    if facts is None:
        return
    with st.expander("Every token's probability", icon=":material/table:"):
        columns = dict(zip(COLUMNS, zip(*list_fact_rows(facts), strict=True), strict=False))
        percent = st.column_config.NumberColumn(format="percent")
        st.dataframe(columns, hide_index=True, column_config=dict.fromkeys(COLUMNS[3:], percent))
        show_caption(
            "Before any temperature. The other text is asked as long as both read the same so far: at the "
            "first difference, and before it."
        )
        name = f"tokens-{result.run[:8]}.csv"
        show_download("Tokens as CSV", write_facts_csv(facts), name, key="tokens-csv")


def show_word_path(loaded: LoadedModel, result: Generation) -> None:
    """P(word) at every generated position of both texts, as a small line."""
    if result.per_position is None or max(map(len, result.per_position)) < 2:
        return
    texts = loaded.vocabulary.texts
    tokens = [[show_token(texts[i]) for i in ids] for ids in (result.base_ids, result.changed_ids)]
    st.plotly_chart(
        word_path_figure(result.request.word.strip(), (tokens[0], tokens[1]), result.per_position),
        key="word-path",
        config=CHART,
    )


def show_answer_position(result: Generation, *, name: str) -> None:
    """The answer position's likeliest tokens. name: distinguishes this chart from others on the page."""
    show_answers([TokenChances(row.token, row.base, row.changed) for row in result.answer], name=name)


def describe_pair(result: Generation) -> str:
    """Time, tokens, seed and reach of a finished pair, as Markdown."""
    sampling = result.request.sampling
    choice = f"temperature {sampling.temperature:g}" if sampling.temperature else "greedy"
    lengths = f"{len(result.base_ids)} and {len(result.changed_ids)} tokens"
    facts = [f"Done in {format_duration(result.seconds)}", lengths, f"seed {sampling.seed}", choice]
    facts += _list_surroundings(result.request)
    used = result.reach.used
    reach = [
        f"`{shorten_change(clamp)}` {describe_reach(covered, acted, used[at] if at < len(used) else ())}"
        for at, (clamp, covered, acted) in enumerate(
            zip(result.request.clamps, result.reach.covered, result.reach.acted, strict=False)
        )
    ]
    if not reach:
        reach = ["no clamp, so both texts are the same"]
    return " · ".join(facts) + ".  \n" + "; ".join(reach) + "."


def _list_surroundings(request: GenerationRequest) -> list[str]:
    """What the folded settings hold beside sampling, so that a link's reader knows."""
    found = {
        "system prompt": request.system,
        f"{len(request.turns)} earlier turns": request.turns,
        "fed raw": request.raw,
        "word in any case": request.fold_case,
    }
    return [name for name, given in found.items() if given]


def describe_reach(covered: int, acted: int, used: Sequence[float] = ()) -> str:
    """How far a clamp reached, in words. used: the raw values it put in, if positions have their own."""
    if covered == 0:
        return "covered no position of this text"
    raw = f", at raw values of {format_range(used)}" if used else ""
    if acted == covered:
        where = "the one position it covers" if covered == 1 else f"all {covered} positions it covers"
        return f"acted on {where}{raw}"
    part = f"acted on {acted} of the {covered} positions it covers ({acted / covered:.0%})"
    return f"{part}: where it was routed{raw}"
