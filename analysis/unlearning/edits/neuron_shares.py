"""Methods that change a share q of the neurons: fits, candidates, eligible shares and random control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import torch

from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import Moments, Place, Where, probe
from analysis.skills.forms import encode_answered
from analysis.skills.items import SkillItem
from analysis.skills.metrics import Change, measure_damage
from analysis.unlearning.edits.neuron_adjust import NeuronAdjust, fit_neuron_adjust, gate_site
from analysis.unlearning.edits.selective_prune import SelectivePrune, draw_prune, fit_selective_prune
from analysis.unlearning.scenes import Scene

MOST_COST = 0.1
"""Largest cost to a kept skill at which a share q is eligible: a share lost, or nats."""


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


class ProposeShare(Protocol):
    """The change of the top q % of neurons, or of as many drawn at random."""

    def __call__(
        self, loaded: LoadedModel, moments: SkillMoments, q: float, *, seed: int, as_released: bool
    ) -> NeuronAdjust | SelectivePrune: ...


def propose_adjust(
    loaded: LoadedModel, moments: SkillMoments, q: float, *, seed: int = 0, as_released: bool = False
) -> NeuronAdjust:
    """Neuron Adjust of the top q % of neurons."""
    return fit_neuron_adjust(loaded, moments.forget, moments.retain, q, seed=seed, as_released=as_released)


def draw_adjust(
    loaded: LoadedModel, moments: SkillMoments, q: float, *, seed: int = 0, as_released: bool = False
) -> NeuronAdjust:
    """The control: Neuron Adjust of as many neurons, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(loaded.anatomy.neurons, generator=generator, dtype=torch.float64)
    sets = moments.forget, moments.retain
    return fit_neuron_adjust(loaded, *sets, q, seed=seed, as_released=as_released, scores=scores)


def propose_prune(
    loaded: LoadedModel, moments: SkillMoments, q: float, *, seed: int = 0, as_released: bool = False
) -> SelectivePrune:
    """Selective pruning of the top q % of neurons; draws nothing."""
    return fit_selective_prune(loaded, moments.forget, moments.retain, q, as_released=as_released)


def draw_prune_control(
    loaded: LoadedModel, moments: SkillMoments, q: float, *, seed: int = 0, as_released: bool = False
) -> SelectivePrune:
    """The control: as many neurons zeroed, drawn at random; uses no moments."""
    return draw_prune(loaded, q, seed, as_released=as_released)


CostKind = Literal["drop", "perplexity", "kl"]
_NAMES: dict[CostKind, str] = {
    "drop": "relative drop",
    "perplexity": "lost share of a token's probability",
    "kl": "median KL of next tokens, nats",
}


@dataclass(frozen=True)
class KeptCost:
    """What a candidate costs a kept skill on validation; cost None: unknown.

    by: the relative drop of accuracy; of a perplexity skill 1 − 1 / perplexity ratio; where accuracy says
    nothing, the median next-token KL in nats.
    """

    skill: str
    by: CostKind
    cost: float | None

    @property
    def why_not(self) -> str:
        """Why a candidate of this cost is not eligible; empty if it is."""
        if self.cost is None:
            return f"what it costs {self.skill} is unknown"
        if round(self.cost, 9) > MOST_COST:  # a tenth of ten answers is .1, whatever floats make of it
            return f"it costs {self.skill} {self.cost:.3g} ({_NAMES[self.by]}), above {MOST_COST:g}"
        return ""


def measure_cost(skill: str, change: Change, kl: float | None) -> KeptCost:
    """The cost of a change to a kept skill. kl: its median next-token KL, for one whose accuracy says
    nothing.
    """
    if change.before is None:
        return KeptCost(skill, "perplexity", measure_damage(change))
    if change.relative_drop is None:
        return KeptCost(skill, "kl", kl)
    return KeptCost(skill, "drop", change.relative_drop)


@dataclass(frozen=True)
class FrontierPoint:
    """One candidate on validation: a share q in %, its forget drop (None: undefined) and what it costs every
    kept skill.
    """

    q: float
    forget_drop: float | None
    costs: tuple[KeptCost, ...]

    @property
    def why_not(self) -> str:
        """Why the share is not eligible; empty if it is."""
        return "; ".join(filter(None, (cost.why_not for cost in self.costs)))

    @property
    def worst_retain_drop(self) -> float | None:
        """The largest known cost but those in KL."""
        return max((c.cost for c in self.costs if c.by != "kl" and c.cost is not None), default=None)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "q": self.q,
            "forget_drop": self.forget_drop,
            "worst_retain_drop": self.worst_retain_drop,
            "eligible": not self.why_not,
            "why": self.why_not,
            "costs": [asdict(cost) for cost in self.costs],
        }


def choose_candidate(points: Sequence[FrontierPoint]) -> int | None:
    """Choose the eligible share of largest forget drop on validation, the first of equals; None: none is
    eligible. An undefined forget drop comes after every other.
    """
    eligible = [i for i, point in enumerate(points) if not point.why_not]
    drops = {i: points[i].forget_drop for i in eligible}
    return max(eligible, key=lambda i: -math.inf if (d := drops[i]) is None else d, default=None)


NONE_ELIGIBLE = "no share of neurons is eligible"


def explain_none(points: Sequence[FrontierPoint], neurons: int) -> str:
    """Why no candidate was chosen: what is wrong with the smallest share, and what else can be tried.

    neurons: of the model.
    """
    least = min(points, key=lambda point: point.q)
    smaller = round(least.q / 200 * neurons) and all(cost.cost is not None for cost in least.costs)
    advice = f"; shares smaller than {least.q:g} % can be tried" if smaller else ""
    return f"{NONE_ELIGIBLE}; already at {least.q:g} %: {least.why_not}{advice}"
