"""Levers as a use case: one word, or a table of words; each word is computed once and stored."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.intervening.residual_units import OF_RESIDUAL, name_unit
from analysis.levers import levers
from analysis.levers.levers import WordQuestion, search_levers
from analysis.levers.verdicts import judge_levers
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.prompts import encode_conversation
from store import RunSpec, Store, list_stored_units, read_unit
from workbench.generating.requests import digest_ids
from workbench.kinds import Kind
from workbench.levers.answers import LeverAnswer, read_levers
from workbench.levers.labels import rank_labels
from workbench.levers.prompts import check_prompt, place_prompts
from workbench.levers.questions import LeverQuestion, read_lever_question
from workbench.runs import UnitResult, run_spec


def check_levers(loaded: LoadedModel, asked: LeverQuestion) -> None:
    """Refuse what cannot be answered, before anything is computed. Raises TextError, UnknownWord."""
    for one in (*asked.select, *asked.held_out, *asked.other):
        encode_conversation(loaded, one)
        check_prompt(loaded, one, asked.word)


def answer_levers(
    loaded: LoadedModel, asked: LeverQuestion, pulse: Pulse = lambda done, total: None
) -> LeverAnswer:
    """The levers of a word, computed. Raises HeadlampError for a word or prompts that cannot be used."""
    started = time.perf_counter()
    check_levers(loaded, asked)
    select, held_out, other = (
        place_prompts(loaded, prompts, asked.word) for prompts in (asked.select, asked.held_out, asked.other)
    )
    pieces = [spelling[0] for prompt in select for spelling in prompt.placed.spellings]
    found = search_levers(
        loaded,
        WordQuestion(
            select=tuple(prompt.placed for prompt in select),
            held_out=tuple(prompt.placed for prompt in held_out),
            other=tuple(prompt.placed for prompt in other),
            labelled=rank_labels(loaded, asked.word, pieces, asked.sites, asked.top, pulse),
            set_size=asked.set_size,
            by_gradient=asked.top,
            controls=asked.controls,
            search_matched=asked.search_matched,
            seed=asked.seed,
        ),
        pulse,
    )
    best = found.best
    unit = OF_RESIDUAL if best is None else name_unit(loaded, best.clamps[0])
    return LeverAnswer(
        word=asked.word,
        spellings=select[0].spellings,
        found=found,
        positions=tuple(prompt.said for prompt in held_out),
        prompts={"select": len(select), "held_out": len(held_out), "other": len(other)},
        seconds=time.perf_counter() - started,
        unit=unit,
        verdict=judge_levers(asked.word, found, len(held_out), unit),
    )


def _check(loaded: LoadedModel, asked: Mapping[str, Any]) -> None:
    check_levers(loaded, read_lever_question(asked))


def levers_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that answers a question from `LeverQuestion.document`."""
    question = read_lever_question(asked)
    prompts = (*question.select, *question.held_out, *question.other)
    ids = [encode_conversation(loaded, one) for one in prompts]
    parameters = dict(asked) | {"prompt_ids": digest_ids(ids)}
    return run_spec(loaded, "levers", levers.METHOD_VERSION, parameters, units=1, seed=question.seed)


def _units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    question = read_lever_question(asked)
    for index in units:
        answer = answer_levers(loaded, question, pulse)
        yield index, UnitResult(question.word, {}, answer.to_document())


LEVERS = Kind(
    name="levers",
    unit="words",
    parameters=tuple(LeverQuestion.__dataclass_fields__),
    title=lambda asked: f"Levers of “{read_lever_question(asked).word}”",
    spec=levers_spec,
    compute=_units,
    together="steps",
    check=_check,
)


@dataclass(frozen=True)
class StoredLevers:
    """A stored answer, and the run it is of."""

    run: str
    answer: LeverAnswer


def find_levers(loaded: LoadedModel, store: Store, asked: LeverQuestion) -> StoredLevers | None:
    """The stored answer, if any; computes nothing."""
    key = levers_spec(loaded, asked.document()).key
    if not list_stored_units(store, key):
        return None
    return StoredLevers(key, read_levers(read_unit(store, key, 0).payload))
