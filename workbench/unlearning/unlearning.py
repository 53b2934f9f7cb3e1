"""Unlearning as long work: skills named by their files, one unit per method, remembered and resumable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from analysis.errors import SkillError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.recipes.files import recipe_files, tensors_of
from analysis.recipes.recipes import recorded_raw
from analysis.skills.answering import NEW_TOKENS
from analysis.skills.splits import FRACTIONS
from analysis.skills.tasks import Ways
from analysis.skills.unit_tests import UnitTests
from analysis.unlearning import scenes
from analysis.unlearning.edits import neuron_adjust, selective_prune
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.evaluating import baseline, evaluate
from analysis.unlearning.guards import key_boxes
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_guards import Check
from analysis.unlearning.results import Plan
from analysis.unlearning.robustness import check_languages
from analysis.unlearning.scenes import METHODS, Method, Scene
from store import RunSpec, Store, list_runs, read_array, read_unit, stored_units
from workbench.kinds import Kind
from workbench.runs import Progress, UnitResult, remembered, run_spec, timed
from workbench.skills.scenes import read_scene
from workbench.skills.sources import SkillSource
from workbench.unlearning.documents import method_document, split_document
from workbench.unlearning.progress import Growing, examples_of

MOST_COUNTED = 100_000
"""Runs that are looked through for earlier openings of a test."""


@dataclass(frozen=True)
class Question:
    """What is forgotten, what is kept, and how.

    tests: off, contained (judge code in a container, or refuse), unsafe. limit: of examples per skill, spread
    evenly; 0 for all. other_language: the forget skill in other languages, measured before and after, and
    nothing else. Raises SkillError for methods that do not exist, or the same one twice.
    """

    forget: SkillSource
    retain: tuple[SkillSource, ...] = ()
    methods: tuple[Method, ...] = METHODS
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

    def __post_init__(self) -> None:
        if not self.methods or len(set(self.methods)) < len(self.methods) or set(self.methods) - set(METHODS):
            raise SkillError(f"methods {', '.join(self.methods)}: choose of {', '.join(METHODS)}, each once")
        if self.tests not in ("off", "contained", "unsafe"):
            raise SkillError(f"tests {self.tests!r}: choose off, contained or unsafe")
        if self.other_language and not self.robustness:
            raise SkillError("another language is part of the robustness check, which is off; leave one out")

    def document(self) -> dict[str, Any]:
        """As JSON; `read_question` reads it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @property
    def plan(self) -> Plan:
        """How methods are fitted and measured."""
        tests = {"off": None, "contained": UnitTests(), "unsafe": UnitTests(unsafe=True)}[self.tests]
        return Plan(
            layers=self.layers,
            rivals=self.rivals,
            check_at=self.check,
            shares=self.shares,
            as_released=self.as_released,
            seed=self.seed,
            ways=Ways(max_new_tokens=self.max_new_tokens, tests=tests),
            controls=self.controls,
            robustness=self.robustness,
            other_languages=tuple(source.read(self.limit) for source in self.other_language),
        )

    def scene(self) -> Scene:
        """The skills read and split. Raises SkillError."""
        scene = read_scene(
            self.forget,
            self.retain,
            seed=self.split_seed,
            fractions=self.fractions,
            hold_wordings=self.hold_wordings,
            limit=self.limit,
        )
        check_languages(scene.splits, self.plan.other_languages)
        return scene


def read_question(document: Mapping[str, Any]) -> Question:
    """The question that `Question.document` wrote."""
    fields = dict(document)
    for name in ("methods", "shares", "fractions"):
        fields[name] = tuple(fields[name])
    if isinstance(fields["layers"], list):
        fields["layers"] = tuple(fields["layers"])
    fields["forget"] = SkillSource(**fields["forget"])
    for name in ("retain", "other_language"):
        fields[name] = tuple(SkillSource(**source) for source in fields.get(name, ()))
    return Question(**fields)


def unlearn_spec(loaded: LoadedModel, question: Question) -> RunSpec:
    """The run that answers a question; where the files lie does not change the answer."""
    parameters = question.document()
    for source in (parameters["forget"], *parameters["retain"], *parameters["other_language"]):
        del source["path"]
    units = len(question.methods)
    version = ".".join(part.METHOD_VERSION for part in (scenes, key_boxes, neuron_adjust, selective_prune))
    return run_spec(loaded, "unlearn", version, parameters, units=units, seed=question.seed)


def _units(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    """One unit per method; the model as it is, is measured once for all that are missing."""
    if not units:
        return
    question = read_question(parameters["question"])
    scene, plan = question.scene(), question.plan
    pulse = Growing(pulse, examples_of(scene, plan, [question.methods[index] for index in units]))
    base = baseline(loaded, scene, plan, pulse)
    for index in units:
        method = question.methods[index]
        found = evaluate(loaded, scene, method, plan, base, pulse)
        files = recipe_files(loaded, found.interventions, "recipe")
        arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
        yield index, UnitResult(method, arrays, method_document(found) | {"split": split_document(scene)})


UNLEARN = Kind(
    name="unlearn",
    unit="methods",
    parameters=("question",),
    title=lambda asked: f"Forget {asked['question']['forget']['name']}",
    spec=lambda loaded, asked: unlearn_spec(loaded, read_question(asked["question"])),
    compute=_units,
    together="examples",
)


@dataclass(frozen=True)
class Unlearned:
    """A question answered. document: as `unlearn --json` prints it; cached: all of it had been stored."""

    run: str
    document: dict[str, Any]
    cached: bool
    seconds: float


def unlearn(
    loaded: LoadedModel, store: Store, question: Question, progress: Progress = lambda done, total: None
) -> Unlearned:
    """Answer a question here and now; methods that are stored are not done again."""
    spec = unlearn_spec(loaded, question)
    done = remembered(
        store,
        spec,
        lambda missing: timed(_units(loaded, {"question": question.document()}, missing, progress)),
    )
    document = _document(loaded, store, question, spec.key, range(len(question.methods)))
    return Unlearned(spec.key, document | {"cached": done.cached}, done.cached, done.seconds)


def stored_unlearned(loaded: LoadedModel, store: Store, question: Question) -> Unlearned | None:
    """What is stored of the answer, with the methods that are done so far; None where none is."""
    key = unlearn_spec(loaded, question).key
    done = sorted(stored_units(store, key))
    return Unlearned(key, _document(loaded, store, question, key, done), True, 0.0) if done else None


def _document(
    loaded: LoadedModel, store: Store, question: Question, key: str, units: Sequence[int]
) -> dict[str, Any]:
    payloads = [read_unit(store, key, index).payload for index in units]
    return {
        "forget": question.forget.name,
        "split": payloads[0]["split"] | {"test_opened": openings(loaded, store, question)},
        "methods": [{k: v for k, v in payload.items() if k != "split"} for payload in payloads],
        "run": key,
        "cached": True,
    }


def fresh_methods(loaded: LoadedModel, question: Question) -> list[dict[str, Any]]:
    """The methods' documents, fitted and measured anew; nothing is read from the store or put there."""
    units = _units(loaded, {"question": question.document()}, range(len(question.methods)), lambda d, t: None)
    made = [json.loads(json.dumps(result.payload)) for _, result in units]
    return [{k: v for k, v in payload.items() if k != "split"} for payload in made]


def openings(loaded: LoadedModel, store: Store, question: Question) -> int:
    """How many different questions have met this forget skill's test, this split's, on this model."""
    runs = list_runs(store, kind="unlearn", model_fingerprint=loaded.fingerprint, limit=MOST_COUNTED)
    mine = (question.forget.digest, question.split_seed)
    return sum(
        (run.parameters["forget"]["digest"], run.parameters["split_seed"]) == mine and run.stored_units > 0
        for run in runs
    )


@lru_cache(maxsize=8)
def recipe_of(store: Store, run: str, index: int) -> Mapping[str, bytes]:
    """The files of the recipe that a method's unit holds, by name; the last few are kept in memory."""
    names = read_unit(store, run, index).arrays
    return {name: read_array(store, run, index, name).tobytes() for name in names}


def changes_of(files: Mapping[str, bytes]) -> tuple[Change, ...]:
    """The changes of a recipe given as its files (`recipe_of`)."""
    document = json.loads(files["recipe.json"])
    data = files.get("recipe.safetensors")
    return recorded_raw(document, {} if data is None else tensors_of(document, data))
