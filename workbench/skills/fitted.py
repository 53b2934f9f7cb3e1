"""Fitted skills: their key boxes in the store, and queries checked against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.running.probing import last_keys, probe
from analysis.running.prompts import encode_prompt
from analysis.skills.items import Skill
from analysis.unlearning.guards import key_boxes
from analysis.unlearning.guards.key_boxes import KeyBox, dense_block, dense_layers, fit_boxes
from analysis.unlearning.scenes import encode_queries
from store import Run, RunSpec, Store, list_runs, read_array, read_unit
from workbench.runs import Progress, UnitResult, compute_in_turn, run_missing_units, run_spec

_ARRAYS = ("mean", "sigma", "own_k")
MOST_SKILLS = 1000


@dataclass(frozen=True)
class FittedSkill:
    """A skill's box, α = 1, fitted on all of its examples."""

    name: str
    run: str
    box: KeyBox
    cached: bool


@dataclass(frozen=True)
class QueryCheck:
    """A query checked against a box. depth: the smallest α whose box holds it; inside: depth ≤ 1. deciding:
    the neurons in which it is furthest out, as shares of the box's half width.
    """

    depth: float
    inside: bool
    deciding: tuple[tuple[str, float], ...]


def fit_skill(
    loaded: LoadedModel,
    store: Store,
    skill: Skill,
    *,
    layer: int | None = None,
    progress: Progress = lambda done, total: None,
) -> FittedSkill:
    """Fit the box of a skill in one layer (default the last dense one) and store it under its name."""
    layer = (dense_layers(loaded) or (0,))[-1] if layer is None else layer
    block = dense_block(loaded, layer)

    def compute(index: int) -> UnitResult:
        moments = probe(loaded, encode_queries(loaded, skill.items), {"key": [block]}, pulse=progress)
        (box,) = fit_boxes(moments, [layer])
        arrays = {name: getattr(box, name).numpy() for name in _ARRAYS}
        return UnitResult(skill.name, arrays, {"k": box.k, "n": box.n})

    spec = _spec(loaded, skill, layer)
    done = run_missing_units(store, spec, compute_in_turn(compute))
    return FittedSkill(skill.name, spec.key, _box(store, spec.key, layer), done.cached)


def _spec(loaded: LoadedModel, skill: Skill, layer: int) -> RunSpec:
    parameters = {"name": skill.name, "skill": skill.digest, "layer": layer}
    return run_spec(loaded, "skill", key_boxes.METHOD_VERSION, parameters, units=1)


def list_fitted_skills(loaded: LoadedModel, store: Store) -> list[Run]:
    """The skills fitted on this model, newest first."""
    runs = list_runs(store, kind="skill", model_fingerprint=loaded.fingerprint, limit=MOST_SKILLS)
    return [run for run in runs if run.finished]


def find_fitted_skill(loaded: LoadedModel, store: Store, name: str) -> FittedSkill:
    """The newest fit of that name. Raises SkillError listing the existing ones."""
    runs = list_fitted_skills(loaded, store)
    for run in runs:
        if run.parameters["name"] == name:
            return FittedSkill(name, run.key, _box(store, run.key, run.parameters["layer"]), True)
    known = ", ".join(sorted({run.parameters["name"] for run in runs})) or "none yet"
    raise SkillError(
        f"no skill {name!r} was fitted on {loaded.ref.name}; fitted: {known}. Fit it with `skill fit`"
    )


def check_query(loaded: LoadedModel, box: KeyBox, query: str) -> QueryCheck:
    """Check whether a query is inside a box. Raises EmptyPrompt, PromptTooLong."""
    block = dense_block(loaded, box.layer)
    key = last_keys(loaded, [encode_prompt(loaded, query)], [block])[BlockAddress(box.layer)][0]
    depth = float(box.depths(key))
    deciding = tuple((f"L{box.layer}.N{neuron}", out) for neuron, out in box.deciding(key))
    return QueryCheck(depth, depth <= key_boxes.SLACK, deciding)


def _box(store: Store, run: str, layer: int) -> KeyBox:
    arrays: Sequence[np.ndarray[Any, Any]] = [read_array(store, run, 0, name) for name in _ARRAYS]
    mean, sigma, own_k = (torch.from_numpy(array.copy()) for array in arrays)
    facts = read_unit(store, run, 0).payload
    return KeyBox(layer, mean, sigma, float(facts["k"]), int(facts["n"]), own_k)
