"""Unlearning as a job: skills referenced by file, one unit per method, stored and resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.recipes.files import write_recipe_files
from analysis.skills.answering import NEW_TOKENS
from analysis.skills.splits import FRACTIONS
from analysis.skills.tasks import MeasureOptions
from analysis.skills.unit_tests import UnitTests
from analysis.unlearning import scenes
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.evaluating import evaluate_method, measure_baseline
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_guards import Check, Measure
from analysis.unlearning.guards.key_places import KeyPlace
from analysis.unlearning.methods import find_method, list_methods
from analysis.unlearning.results import FitSettings
from analysis.unlearning.robustness import check_languages
from analysis.unlearning.scenes import Scene
from store import RunSpec, Store, list_runs, list_stored_units, read_array, read_unit
from workbench.kinds import Kind
from workbench.records import read_odd_record, read_record, write_record
from workbench.runs import FinishedRun, Progress, UnitResult, run_missing_units, run_spec, time_units
from workbench.skills.scenes import read_scene
from workbench.skills.sources import SkillSource
from workbench.skills.utility import read_utility
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.documents import read_method
from workbench.unlearning.method_verdicts import describe_method
from workbench.unlearning.progress import PassCounter, count_examples
from workbench.unlearning.split_answers import SkillSplits, SplitAnswer, describe_split

SOURCES = ("retain", "other_language", "near", "unlisted", "mmlu")
"""The question's fields that are lists of skills."""

MOST_COUNTED = 100_000
"""Largest number of runs searched for earlier uses of a test."""


@dataclass(frozen=True)
class UnlearningQuestion:
    """What to forget, what to retain, and how.

    tests: off, contained (judge code in a container, or refuse), unsafe. limit: of examples per skill,
    evenly spaced; 0 for all. max_new_tokens: the limit to begin with, see `measure_baseline`. as_released:
    decide as the authors' code does, see `plan`. other_language: the forget skill in other languages, only
    measured before and after. near, unlisted: see `Scene`. mmlu: multiple choice, of which MMLU_SAMPLE
    examples are measured as utility. Raises SkillError for methods that do not exist, or the same one twice.
    """

    forget: SkillSource
    retain: tuple[SkillSource, ...] = ()
    methods: tuple[str, ...] = field(default_factory=list_methods)
    layers: LayerChoice | tuple[int, ...] = "best"
    rivals: bool = True
    check: Check = "prefill"
    shares: tuple[float, ...] = SHARES
    as_released: bool = False
    split_seed: int = 0
    seed: int = 0
    fractions: tuple[float, float, float] = FRACTIONS
    hold_wordings: bool = True
    limit: int = 0
    max_new_tokens: int = NEW_TOKENS
    tests: str = "off"
    controls: bool = True
    robustness: bool = True
    other_language: tuple[SkillSource, ...] = ()
    near: tuple[SkillSource, ...] = ()
    unlisted: tuple[SkillSource, ...] = ()
    mmlu: tuple[SkillSource, ...] = ()
    measure: Measure = "linear"
    key: KeyPlace | None = None
    wrap: bool | None = None

    def __post_init__(self) -> None:
        known = list_methods()
        if not self.methods or len(set(self.methods)) < len(self.methods) or set(self.methods) - set(known):
            raise SkillError(f"methods {', '.join(self.methods)}: choose of {', '.join(known)}, each once")
        if self.tests not in ("off", "contained", "unsafe"):
            raise SkillError(f"tests {self.tests!r}: choose off, contained or unsafe")
        if self.other_language and not self.robustness:
            raise SkillError(
                "another language is part of the robustness check, which is off; leave out one of the two"
            )
        guards = any(find_method(name).abstains for name in self.methods)
        if self.measure == "linear" and guards and not self.as_released:
            self._check_linear()

    def _check_linear(self) -> None:
        if not self.rivals:
            raise SkillError(
                "a linear guard is fitted to tell the skill from what is kept, so it needs rivals; choose "
                "the measure box for a guard without"
            )
        if self.check == "each_step":
            raise SkillError(
                "a linear guard is fitted on prompts, so it cannot check what is generated; choose the "
                "measure box, or prefill"
            )

    def document(self) -> dict[str, Any]:
        """As JSON; `read_question` reads it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @property
    def plan(self) -> FitSettings:
        """How methods are fitted and measured. As released, a guard is a box of the last layer without
        rivals, checked at each step, and the model is asked one query at a time, whatever else is chosen.
        """
        plan = self._plan
        if not self.as_released:
            return plan
        return replace(
            plan,
            layers="last",
            rivals=False,
            check_at="each_step",
            measure="box",
            key="last",
            wrap=False,
            ways=replace(plan.ways, batch_size=1),
        )

    @property
    def _plan(self) -> FitSettings:
        """Every option as chosen. With nothing to tell the skill from, a guard is the paper's: a box."""
        tests = {"off": None, "contained": UnitTests(), "unsafe": UnitTests(unsafe=True)}[self.tests]
        measure = self.measure if self.retain or self.near else "box"
        return FitSettings(
            layers=self.layers,
            rivals=self.rivals,
            check_at=self.check,
            shares=self.shares,
            as_released=self.as_released,
            seed=self.seed,
            ways=MeasureOptions(max_new_tokens=self.max_new_tokens, tests=tests),
            controls=self.controls,
            robustness=self.robustness,
            other_languages=tuple(source.read(self.limit) for source in self.other_language),
            measure=measure,
            key=self.key or ("both" if measure == "linear" else "last"),
            wrap=measure == "linear" if self.wrap is None else self.wrap,
            mmlu=read_utility(self.mmlu),
        )

    def scene(self) -> Scene:
        """Read and split the skills. Raises SkillError."""
        scene = read_scene(
            self.forget,
            self.retain,
            near=self.near,
            unlisted=self.unlisted,
            seed=self.split_seed,
            fractions=self.fractions,
            hold_wordings=self.hold_wordings,
            limit=self.limit,
        )
        check_languages(scene.splits, self.plan.other_languages)
        return scene


def read_question(document: Mapping[str, Any]) -> UnlearningQuestion:
    """The question that `UnlearningQuestion.document` wrote; earlier versions' had boxes at the last
    token.
    """
    return read_record(UnlearningQuestion, {"measure": "box", **document})


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
    pulse = PassCounter(pulse, count_examples(scene, plan, [question.methods[index] for index in units]))
    validate = not all(find_method(question.methods[index]).only_reads(plan) for index in units)
    base = measure_baseline(loaded, scene, plan, pulse, validate=validate)
    for index in units:
        method = question.methods[index]
        found = evaluate_method(loaded, scene, method, plan, base, pulse)
        files = write_recipe_files(loaded, found.interventions, "recipe")
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        payload = describe_method(found).to_document() | {"split": write_record(describe_split(scene))}
        yield index, UnitResult(method, arrays, payload)


UNLEARN = Kind(
    name="unlearn",
    unit="methods",
    parameters=("question",),
    title=lambda asked: f"Forget {asked['question']['forget']['name']}",
    spec=lambda loaded, asked: unlearn_spec(loaded, read_question(asked["question"])),
    compute=compute_units,
    together="examples",
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
