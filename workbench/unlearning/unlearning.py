"""Unlearning as a job: skills referenced by file, one unit per method, stored and resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.recipes.files import write_recipe_files
from analysis.unlearning import scenes
from analysis.unlearning.evaluating import evaluate_method, measure_baseline
from analysis.unlearning.methods import find_method
from store import RunSpec, Store, list_runs, list_stored_units, read_array, read_unit
from workbench.kinds import Kind
from workbench.records import read_odd_record, read_record, write_record
from workbench.runs import FinishedRun, Progress, UnitResult, run_missing_units, run_spec, time_units
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import check_scene
from workbench.unlearning.documents import read_method
from workbench.unlearning.method_verdicts import describe_method
from workbench.unlearning.progress import PassCounter, count_examples
from workbench.unlearning.questions import SOURCES, UnlearningQuestion, read_question
from workbench.unlearning.split_answers import SkillSplits, SplitAnswer, describe_split

MOST_COUNTED = 100_000
"""Largest number of runs searched for earlier uses of a test."""


def unlearn_spec(loaded: LoadedModel, question: UnlearningQuestion) -> RunSpec:
    """The run that answers a question; the files' location does not matter."""
    parameters = question.document()
    for source in (parameters["forget"], *(one for name in SOURCES for one in parameters[name])):
        del source["path"]
    units = len(question.methods)
    asked = [f"{name}{find_method(name).version}" for name in question.methods]
    version = ".".join((scenes.METHOD_VERSION, *asked))
    return run_spec(loaded, "unlearn", version, parameters, units=units, seed=question.seed)


def compute_units(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    """One unit per method; the unchanged model is measured once for all missing ones."""
    if not units:
        return
    question = read_question(parameters["question"])
    scene, plan = question.scene(), question.plan
    pulse = PassCounter(
        pulse, count_examples(loaded, scene, plan, [question.methods[index] for index in units])
    )
    validate = not all(find_method(question.methods[index]).only_reads(plan) for index in units)
    base = measure_baseline(loaded, scene, plan, pulse, validate=validate)
    for index in units:
        method = question.methods[index]
        found = evaluate_method(loaded, scene, method, plan, base, pulse)
        files = write_recipe_files(loaded, found.interventions, "recipe")
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        payload = describe_method(found).to_document() | {"split": write_record(describe_split(scene))}
        yield index, UnitResult(method, arrays, payload)


def _check(loaded: LoadedModel, question: UnlearningQuestion) -> None:
    check_scene(loaded, question)


UNLEARN = Kind(
    name="unlearn",
    unit="methods",
    parameters=("question",),
    title=lambda asked: f"Forget {asked['question']['forget']['name']}",
    spec=lambda loaded, asked: unlearn_spec(loaded, read_question(asked["question"])),
    compute=compute_units,
    together="examples",
    check=lambda loaded, asked: _check(loaded, read_question(asked["question"])),
)


def unlearn(
    loaded: LoadedModel,
    store: Store,
    question: UnlearningQuestion,
    progress: Progress = lambda done, total: None,
) -> UnlearningAnswer:
    """Answer a question without a job; stored methods are reused."""
    spec = unlearn_spec(loaded, question)
    done = run_missing_units(
        store,
        spec,
        lambda missing: time_units(
            compute_units(loaded, {"question": question.document()}, missing, progress)
        ),
    )
    found = _read_units(loaded, store, question, spec.key, range(len(question.methods)))
    return replace(found, cached=done.cached, seconds=done.seconds)


def read_unlearning_answer(
    loaded: LoadedModel, store: Store, question: UnlearningQuestion, done: FinishedRun
) -> UnlearningAnswer:
    """The whole answer of a run that a job finished."""
    found = _read_units(loaded, store, question, done.run.key, range(len(question.methods)))
    return replace(found, cached=done.cached, seconds=done.seconds)


def find_unlearning_answer(
    loaded: LoadedModel, store: Store, question: UnlearningQuestion
) -> UnlearningAnswer | None:
    """The stored part of the answer, with the methods finished so far; None if there is none."""
    key = unlearn_spec(loaded, question).key
    done = sorted(list_stored_units(store, key))
    return _read_units(loaded, store, question, key, done) if done else None


@dataclass(frozen=True)
class _Unit:
    """What a unit holds beside its method."""

    split: SkillSplits


def _read_units(
    loaded: LoadedModel, store: Store, question: UnlearningQuestion, key: str, units: Sequence[int]
) -> UnlearningAnswer:
    payloads = [read_unit(store, key, index).payload for index in units]
    split = read_record(_Unit, payloads[0]).split
    return UnlearningAnswer(
        run=key,
        forget=question.forget.name,
        split=SplitAnswer(split.seed, split.skills, count_openings(loaded, store, question)),
        methods=tuple(read_method(payload) for payload in payloads),
    )


def remeasure_methods(loaded: LoadedModel, question: UnlearningQuestion) -> list[dict[str, Any]]:
    """Fit and measure the methods again, as `unlearn --json` prints them; nothing is read from the store or
    written to it.
    """
    units = compute_units(
        loaded, {"question": question.document()}, range(len(question.methods)), lambda d, t: None
    )
    return [read_method(json.loads(json.dumps(result.payload))).to_document() for _, result in units]


@dataclass(frozen=True)
class _UsedSkill:
    digest: str = ""


@dataclass(frozen=True)
class _UsedTest:
    """Whose test a stored run used."""

    forget: _UsedSkill = field(default_factory=_UsedSkill)
    split_seed: int | None = None


def count_openings(loaded: LoadedModel, store: Store, question: UnlearningQuestion) -> int:
    """How many different questions used this forget skill's test, with this split, on this model."""
    runs = list_runs(store, kind="unlearn", model_fingerprint=loaded.fingerprint, limit=MOST_COUNTED)
    mine = _UsedTest(_UsedSkill(question.forget.digest), question.split_seed)
    return sum(read_odd_record(_UsedTest, run.parameters) == mine and run.stored_units > 0 for run in runs)


@lru_cache(maxsize=8)
def read_method_recipe(store: Store, run: str, index: int) -> Mapping[str, bytes]:
    """The recipe files in a method's unit, by name; the last few are cached in memory."""
    names = read_unit(store, run, index).arrays
    return {name: read_array(store, run, index, name).tobytes() for name in names}
