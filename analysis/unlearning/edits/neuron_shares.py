"""Methods that change a share q of the neurons: their fits, candidates, frontier and random control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import Moments, Place, probe
from analysis.skills.items import SkillItem
from analysis.skills.tasks import Form, with_space
from analysis.unlearning.edits.neuron_adjust import NeuronAdjust, fit_neuron_adjust, gate_site
from analysis.unlearning.edits.selective_prune import SelectivePrune, fit_selective_prune, random_prune
from analysis.unlearning.scenes import Method, Scene, queries

MOST_RETAIN_DROP = 0.1
"""Relative drop of a skill to be kept above which a share q is not chosen, if another forgets as well."""


@dataclass(frozen=True, eq=False)
class SkillMoments:
    """Moments of the forget skill and of all skills to be kept, gate and key sites, position 0 left out."""

    forget: dict[Place, Moments]
    retain: dict[Place, Moments]


def skill_moments(loaded: LoadedModel, scene: Scene, pulse: Pulse = lambda done, total: None) -> SkillMoments:
    """One pass over the probes, each with its answer. Raises TooFewExamples: nothing to keep."""
    retained = [item for split in scene.retain for item in split.probe]
    if not retained or not scene.forget.probe:
        raise TooFewExamples(
            "Neuron Adjust and selective pruning weigh a skill against others: give at least one to keep"
        )
    return SkillMoments(_moments(loaded, scene.forget.probe, pulse), _moments(loaded, retained, pulse))


def _moments(loaded: LoadedModel, items: Sequence[SkillItem], pulse: Pulse) -> dict[Place, Moments]:
    blocks = loaded.anatomy.blocks
    sites: dict[Any, Any] = {"key": blocks}
    for block in blocks:
        sites.setdefault(gate_site(block), []).append(block)
    return probe(loaded, queries(loaded, items, _Answered()), sites, where="all but first", pulse=pulse)


class _Answered(Form):
    """The prompt with its answer, where that is a text."""

    def prompt(self, item: SkillItem) -> str:
        """See Form."""
        if item.judge in ("number", "substring", "exact"):
            return f"{item.prompt}{with_space(item.prompt, item.answer)}"
        return item.prompt


def candidates(
    loaded: LoadedModel,
    method: Method,
    moments: SkillMoments,
    shares: Sequence[float],
    *,
    seed: int = 0,
    as_released: bool = False,
) -> Iterator[tuple[float, NeuronAdjust | SelectivePrune]]:
    """(q, intervention) of each share in %."""
    for q in shares:
        if method == "na":
            yield (
                q,
                fit_neuron_adjust(
                    loaded, moments.forget, moments.retain, q, seed=seed, as_released=as_released
                ),
            )
        else:
            yield q, fit_selective_prune(loaded, moments.forget, moments.retain, q)


def random_control(
    loaded: LoadedModel, method: Method, moments: SkillMoments, q: float, seed: int
) -> NeuronAdjust | SelectivePrune:
    """As many neurons as the top q %, drawn at random, changed in the method's own way."""
    if method == "sp":
        return random_prune(loaded, q, seed)
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(loaded.anatomy.neurons, generator=generator, dtype=torch.float64)
    return fit_neuron_adjust(loaded, moments.forget, moments.retain, q, seed=seed, scores=scores)


@dataclass(frozen=True)
class FrontierPoint:
    """One candidate on validation: what the forget skill loses, and the most that a kept one does; None where
    that cannot be told."""

    parameters: Mapping[str, Any]
    forget_drop: float | None
    worst_retain_drop: float | None

    @property
    def forgotten(self) -> float:
        """For choosing: what cannot be told is nothing forgotten."""
        return 0.0 if self.forget_drop is None else self.forget_drop

    @property
    def cost(self) -> float:
        """For choosing: what cannot be told may be all that there is."""
        return 1.0 if self.worst_retain_drop is None else self.worst_retain_drop


def best_point(points: Sequence[FrontierPoint]) -> int:
    """Which candidate validation chooses: of those that cost no skill more than MOST_RETAIN_DROP the one that
    forgets most, if one of them forgets at all; else the largest difference."""
    gentle = [i for i, p in enumerate(points) if p.cost <= MOST_RETAIN_DROP and p.forgotten > 0]
    if gentle:
        return max(gentle, key=lambda i: (points[i].forgotten, -i))
    return max(range(len(points)), key=lambda i: (points[i].forgotten - points[i].cost, -i))
