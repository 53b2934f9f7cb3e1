"""Methods that change a share q of the neurons: fits, candidates, frontier and random control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import Moments, Place, Where, probe
from analysis.skills.forms import encode_answered
from analysis.skills.items import SkillItem
from analysis.unlearning.edits.neuron_adjust import NeuronAdjust, fit_neuron_adjust, gate_site
from analysis.unlearning.edits.selective_prune import SelectivePrune, draw_prune, fit_selective_prune
from analysis.unlearning.scenes import Method, Scene

MOST_RETAIN_DROP = 0.1
"""Largest retain drop at which a share q may be chosen, if another share forgets as well."""


@dataclass(frozen=True, eq=False)
class SkillMoments:
    """Moments of the forget skill and of all retain skills, gate and key sites."""

    forget: dict[Place, Moments]
    retain: dict[Place, Moments]


def measure_moments(
    loaded: LoadedModel,
    scene: Scene,
    pulse: Pulse = lambda done, total: None,
    *,
    as_released: bool = False,
) -> SkillMoments:
    """One pass over the probes, each with its answer; all positions but 0, as_released all of them.

    Raises TooFewExamples without retain skills.
    """
    retained = [item for split in scene.retain for item in split.probe]
    if not retained or not scene.forget.probe:
        raise TooFewExamples(
            "Neuron Adjust and selective pruning compare a forget skill with retain skills: give at "
            "least one to retain"
        )
    where: Where = "all" if as_released else "all but first"
    forget, retain = (_moments(loaded, items, where, pulse) for items in (scene.forget.probe, retained))
    return SkillMoments(forget, retain)


def _moments(
    loaded: LoadedModel, items: Sequence[SkillItem], where: Where, pulse: Pulse
) -> dict[Place, Moments]:
    blocks = loaded.anatomy.blocks
    sites: dict[Any, Any] = {"key": blocks}
    for block in blocks:
        sites.setdefault(gate_site(block), []).append(block)
    return probe(loaded, encode_answered(loaded, items), sites, where=where, pulse=pulse)


def list_candidates(
    loaded: LoadedModel,
    method: Method,
    moments: SkillMoments,
    shares: Sequence[float],
    *,
    seed: int = 0,
    as_released: bool = False,
) -> Iterator[tuple[float, NeuronAdjust | SelectivePrune]]:
    """One (q, intervention) per share in %."""
    sets = moments.forget, moments.retain
    for q in shares:
        if method == "na":
            yield q, fit_neuron_adjust(loaded, *sets, q, seed=seed, as_released=as_released)
        else:
            yield q, fit_selective_prune(loaded, *sets, q, as_released=as_released)


def draw_control(
    loaded: LoadedModel,
    method: Method,
    moments: SkillMoments,
    q: float,
    *,
    seed: int = 0,
    as_released: bool = False,
) -> NeuronAdjust | SelectivePrune:
    """As many neurons as the top q %, drawn at random, with the method's own change."""
    if method == "sp":
        return draw_prune(loaded, q, seed, as_released=as_released)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(loaded.anatomy.neurons, generator=generator, dtype=torch.float64)
    sets = moments.forget, moments.retain
    return fit_neuron_adjust(loaded, *sets, q, seed=seed, as_released=as_released, scores=scores)


@dataclass(frozen=True)
class FrontierPoint:
    """One candidate on validation: its forget drop and its worst retain drop; None if undefined."""

    parameters: Mapping[str, Any]
    forget_drop: float | None
    worst_retain_drop: float | None

    @property
    def forgotten(self) -> float:
        """For choosing: an undefined forget drop counts as 0."""
        return 0.0 if self.forget_drop is None else self.forget_drop

    @property
    def cost(self) -> float:
        """For choosing: an undefined retain drop counts as total loss."""
        return 1.0 if self.worst_retain_drop is None else self.worst_retain_drop


def choose_candidate(points: Sequence[FrontierPoint]) -> int:
    """Choose a candidate on validation: the largest forget drop among those with retain drops up to
    MOST_RETAIN_DROP, if one of them forgets at all; else the largest difference.
    """
    gentle = [i for i, p in enumerate(points) if p.cost <= MOST_RETAIN_DROP and p.forgotten > 0]
    if gentle:
        return max(gentle, key=lambda i: (points[i].forgotten, -i))
    return max(range(len(points)), key=lambda i: (points[i].forgotten - points[i].cost, -i))
