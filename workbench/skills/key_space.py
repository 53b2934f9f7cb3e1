"""Fitting of a skill's boxes as a job: one unit that holds everything charts, curves and queries need."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.unrelated import COUNT
from analysis.unlearning.guards import key_boxes, key_spaces
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, KeyBox
from analysis.unlearning.guards.key_planes import Plane
from analysis.unlearning.guards.key_spaces import (
    KeySpace,
    LayerKeys,
    TriedQuery,
    check_boxes,
    count_key_tokens,
    fit_key_space,
    try_query,
)
from store import RunSpec, Store, find_run, read_array, read_unit
from workbench.kinds import Kind, Order, make_order
from workbench.records import read_record, write_record
from workbench.runs import UnitResult, run_spec
from workbench.skills.scenes import advise_enough, read_scene
from workbench.skills.sources import SkillSource

_SHARED = ("which", "probe", "drawn")
_BOX, _PLANE, _OTHER = ("mean", "sigma", "own_k"), ("axes", "shares"), ("depths", "points", "corners")


@dataclass(frozen=True)
class KeySpaceQuestion:
    """Whose boxes to fit, what to compare them with, and how examples are split.

    limit: of examples per skill, evenly spaced; 0 for all. unrelated: passages of unrelated text.
    """

    skill: SkillSource
    compared: tuple[SkillSource, ...] = ()
    limit: int = 0
    split_seed: int = 0
    unrelated: int = COUNT

    def document(self) -> dict[str, Any]:
        """As JSON; `read_key_space_question` reads it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def order(self, loaded: LoadedModel) -> Order:
        """The job that answers it on a model."""
        return make_order(KEY_SPACE, loaded.ref, question=self.document())


def read_key_space_question(document: Mapping[str, Any]) -> KeySpaceQuestion:
    """The question that `KeySpaceQuestion.document` wrote."""
    return read_record(KeySpaceQuestion, document)


def key_space_spec(loaded: LoadedModel, question: KeySpaceQuestion) -> RunSpec:
    """The run that answers a question; the files' location does not matter.

    Raises SkillError for a model without a dense layer.
    """
    check_boxes(loaded)
    parameters = question.document()
    for source in (parameters["skill"], *parameters["compared"]):
        del source["path"]
    version = f"{key_spaces.METHOD_VERSION}.{key_boxes.METHOD_VERSION}"
    return run_spec(loaded, "keyspace", version, parameters, units=1, seed=question.split_seed)


def _units(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    question = read_key_space_question(parameters["question"])
    for index in units:
        scene = read_scene(question.skill, question.compared, seed=question.split_seed, limit=question.limit)
        yield index, _unit(fit_key_space(loaded, scene, question.unrelated, pulse))


def count_key_space_tokens(loaded: LoadedModel, question: KeySpaceQuestion) -> int:
    """Tokens that the model reads to answer a question. Raises SkillError."""
    check_key_space(loaded, question)
    scene = read_scene(question.skill, question.compared, seed=question.split_seed, limit=question.limit)
    return count_key_tokens(loaded, scene, question.unrelated)


def check_key_space(loaded: LoadedModel, question: KeySpaceQuestion) -> None:
    """Raise SkillError for a model without a dense layer, TooFewExamples for a skill with too few probes."""
    check_boxes(loaded)

    def count_probes(limit: int) -> int:
        return len(read_scene(question.skill, seed=question.split_seed, limit=limit).forget.probe)

    probes = count_probes(question.limit)
    if probes < FEWEST_PROBES:
        used = len(question.skill.read(question.limit).items)
        advice = advise_enough(question.skill, question.limit, probes, FEWEST_PROBES, count_probes)
        raise TooFewExamples(
            f"{used} examples of {question.skill.name} make {probes} probes, and a key box needs at least "
            f"{FEWEST_PROBES}; {advice}"
        )


KEY_SPACE = Kind(
    name="keyspace",
    unit="skills",
    parameters=("question",),
    title=lambda asked: f"Fit the key box of {asked['question']['skill']['name']}",
    spec=lambda loaded, asked: key_space_spec(loaded, read_key_space_question(asked["question"])),
    compute=_units,
    together="queries",
    check=lambda loaded, asked: check_key_space(loaded, read_key_space_question(asked["question"])),
)


def find_key_space(
    loaded: LoadedModel, store: Store, question: KeySpaceQuestion
) -> tuple[str, KeySpace] | None:
    """The key of the stored run that answers a question, and the answer; None if there is none."""
    run = find_run(store, key_space_spec(loaded, question).key)
    return None if run is None or not run.finished else (run.key, read_key_space(store, run.key))


@dataclass(frozen=True)
class BoxSize:
    """The k of a layer's box, and the probes it was fitted on."""

    k: float
    n: int


@dataclass(frozen=True)
class _Facts:
    """What a unit holds beside its arrays."""

    names: tuple[str, ...]
    texts: tuple[str, ...]
    too_long: tuple[int, ...]
    layers: Mapping[str, BoxSize]


@lru_cache(maxsize=4)
def read_key_space(store: Store, run: str) -> KeySpace:
    """A finished answer from the store; the last few are cached in memory."""
    facts = read_record(_Facts, read_unit(store, run, 0).payload)
    which, probe, drawn = (_tensor(store, run, name) for name in _SHARED)
    return KeySpace(
        facts.names,
        which.long(),
        probe.bool(),
        drawn.long(),
        facts.texts,
        facts.too_long,
        {int(layer): _layer(store, run, int(layer), size) for layer, size in facts.layers.items()},
    )


def try_stored_query(loaded: LoadedModel, store: Store, run: str, text: str) -> TriedQuery:
    """Locate a query among the boxes of a stored answer. Raises EmptyPrompt, PromptTooLong."""
    return try_query(loaded, read_key_space(store, run), text)


def _unit(space: KeySpace) -> UnitResult:
    arrays = {name: getattr(space, name).numpy().astype(np.int32) for name in _SHARED}
    for layer, found in space.layers.items():
        parts = ((found.box, _BOX), (found.plane, _PLANE), (found, _OTHER))
        arrays |= {f"{name}_{layer}": getattr(part, name).numpy() for part, names in parts for name in names}
    sizes = {str(layer): BoxSize(found.box.k, found.box.n) for layer, found in space.layers.items()}
    facts = _Facts(space.names, space.texts, space.too_long, sizes)
    return UnitResult(space.names[0], arrays, write_record(facts))


def _layer(store: Store, run: str, layer: int, size: BoxSize) -> LayerKeys:
    names = (*_BOX, *_PLANE, *_OTHER)
    found = {name: _tensor(store, run, f"{name}_{layer}") for name in names}
    box = KeyBox(layer, found["mean"], found["sigma"], float(size.k), size.n, found["own_k"])
    plane = Plane(box.mean, found["axes"], found["shares"])
    return LayerKeys(box, found["depths"], plane, found["points"], found["corners"])


def _tensor(store: Store, run: str, name: str) -> torch.Tensor:
    return torch.from_numpy(read_array(store, run, 0, name).copy())
