"""Fitted skills by name: a box of one, and queries checked against it.

A fit is the Skills page's (`key_space.py`): all dense layers, on the probes of a split. Earlier versions
fitted one layer on all examples; what they stored is still found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.running.probing import last_keys
from analysis.running.prompts import encode_prompt
from analysis.unlearning.guards import key_boxes
from analysis.unlearning.guards.key_boxes import KeyBox, dense_block
from store import Run, Store, list_runs, read_array, read_unit
from workbench.records import read_record
from workbench.skills.key_space import BoxSize, read_key_space

KEY_SPACES, EARLIER = "keyspace", "skill"
"""Kinds of runs that hold a skill's boxes."""
_ARRAYS = ("mean", "sigma", "own_k")
MOST_SKILLS = 1000


@dataclass(frozen=True)
class _EarlierQuestion:
    """The parameters of a run of an earlier version: a skill's name, and the one layer fitted."""

    name: str
    layer: int


@dataclass(frozen=True)
class _Named:
    name: str


@dataclass(frozen=True)
class _Asked:
    """The parameters of a run of today."""

    skill: _Named


@dataclass(frozen=True)
class FittedSkill:
    """A skill's box in one layer, α = 1."""

    name: str
    run: str
    box: KeyBox


@dataclass(frozen=True)
class QueryCheck:
    """A query checked against a box. depth: the smallest α whose box holds it; inside: depth ≤ 1. deciding:
    the neurons in which it is furthest out, as shares of the box's half width.
    """

    depth: float
    inside: bool
    deciding: tuple[tuple[str, float], ...]


def find_fitted_skill(loaded: LoadedModel, store: Store, name: str, layer: int | None = None) -> FittedSkill:
    """The newest fit of that name, in a layer (default the last fitted). Raises SkillError listing the
    existing ones, or for a layer that was not fitted.
    """
    runs = [run for kind in (KEY_SPACES, EARLIER) for run in _list_runs(loaded, store, kind)]
    for run in sorted(runs, key=lambda run: run.created_at, reverse=True):
        if _name(run) == name:
            return FittedSkill(name, run.key, read_box(store, run, layer))
    known = ", ".join(sorted({_name(run) for run in runs})) or "none yet"
    raise SkillError(
        f"no skill {name!r} was fitted on {loaded.ref.name}; fitted: {known}. Fit it with `skill fit`"
    )


def read_box(store: Store, run: Run, layer: int | None = None) -> KeyBox:
    """A fit's box in a layer, default the last. Raises SkillError for a layer that was not fitted."""
    earlier = run.kind == EARLIER
    layers = [_read_earlier_question(run).layer] if earlier else sorted(read_key_space(store, run.key).layers)
    chosen = layers[-1] if layer is None else layer
    if chosen not in layers:
        fitted = ", ".join(f"L{one}" for one in layers)
        raise SkillError(f"layer {chosen} has no box of {_name(run)}; fitted: {fitted}")
    return (
        _read_earlier(store, run.key, chosen)
        if earlier
        else read_key_space(store, run.key).layers[chosen].box
    )


def _list_runs(loaded: LoadedModel, store: Store, kind: str) -> list[Run]:
    runs = list_runs(store, kind=kind, model_fingerprint=loaded.fingerprint, limit=MOST_SKILLS)
    return [run for run in runs if run.finished]


def _name(run: Run) -> str:
    if run.kind == EARLIER:
        return _read_earlier_question(run).name
    return read_record(_Asked, run.parameters).skill.name


def _read_earlier_question(run: Run) -> _EarlierQuestion:
    return read_record(_EarlierQuestion, run.parameters)


def check_query(loaded: LoadedModel, box: KeyBox, query: str) -> QueryCheck:
    """Check whether a query is inside a box. Raises EmptyPrompt, PromptTooLong."""
    block = dense_block(loaded, box.layer)
    key = last_keys(loaded, [encode_prompt(loaded, query)], [block])[BlockAddress(box.layer)][0]
    depth = float(box.depths(key))
    deciding = tuple((f"L{box.layer}.N{neuron}", out) for neuron, out in box.deciding(key))
    return QueryCheck(depth, depth <= key_boxes.SLACK, deciding)


def _read_earlier(store: Store, run: str, layer: int) -> KeyBox:
    arrays: Sequence[np.ndarray[Any, Any]] = [read_array(store, run, 0, name) for name in _ARRAYS]
    mean, sigma, own_k = (torch.from_numpy(array.copy()) for array in arrays)
    size = read_record(BoxSize, read_unit(store, run, 0).payload)
    return KeyBox(layer, mean, sigma, float(size.k), size.n, own_k)
