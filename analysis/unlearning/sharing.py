"""Methods that change a share of the neurons: each tried on validation, the best eligible one taken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import measure_change, measure_damage
from analysis.skills.splits import Split
from analysis.skills.tasks import measure_items
from analysis.unlearning.edits.neuron_shares import (
    FrontierPoint,
    KeptCost,
    ProposeShare,
    choose_candidate,
    explain_none,
    measure_cost,
    measure_moments,
)
from analysis.unlearning.edits.selective_prune import find_usable_shares
from analysis.unlearning.measuring import measure_skill_divergence
from analysis.unlearning.passes import ExamplePass
from analysis.unlearning.records import Fit, FittedMethod
from analysis.unlearning.results import Baseline, FitSettings
from analysis.unlearning.scenes import Scene


def fit_share(propose: ProposeShare, draw: ProposeShare) -> Fit:
    """The fit of a method that proposes a change of the top q % of neurons. draw: of random ones."""

    def fit(
        loaded: LoadedModel, scene: Scene, plan: FitSettings, base: Baseline, pulse: Pulse
    ) -> FittedMethod:
        moments = measure_moments(loaded, scene, pulse, as_released=plan.as_released)
        how: dict[str, Any] = {"seed": plan.seed, "as_released": plan.as_released}
        points, tried = [], []
        for q in find_usable_shares(plan.shares, loaded.anatomy.neurons):
            change = propose(loaded, moments, q, **how)
            points.append(_point(loaded, scene, q, change, plan, base, pulse))
            tried.append(change)
        best = choose_candidate(points)
        sweep = tuple(point.document() for point in points)
        if best is None:
            return FittedMethod(
                None, {"q": None, "why": explain_none(points, loaded.anatomy.neurons)} | how, sweep
            )
        point, chosen = points[best], tried[best]
        parameters = {"q": point.q, "neurons": chosen.count} | how
        parameters["validation"] = {
            "forget_drop": point.forget_drop,
            "worst_retain_drop": point.worst_retain_drop,
        }
        control = draw(loaded, moments, point.q, **how) if plan.controls else None
        return FittedMethod(chosen, parameters, sweep, control)

    return fit


def list_share_fits(scene: Scene, plan: FitSettings) -> Iterator[ExamplePass]:
    """The passes of a fit: probes once, validation at every share."""
    for split in (*scene.splits, *scene.near):
        yield ExamplePass(split.skill, len(split.probe))
    for _ in plan.shares:
        for split in scene.splits:
            yield ExamplePass(split.skill, len(split.validation), answered=True, rambling=True)


def _point(
    loaded: LoadedModel,
    scene: Scene,
    q: float,
    change: Change,
    plan: FitSettings,
    base: Baseline,
    pulse: Pulse,
) -> FrontierPoint:
    """A candidate on validation."""
    found = {
        split.skill: measure_change(
            base.validation[split.skill],
            measure_items(loaded, split.validation, [change], plan.ways, pulse),
        )
        for split in scene.splits
    }
    costs = tuple(_cost(loaded, split, found[split.skill], change, plan) for split in scene.retain)
    return FrontierPoint(q, measure_damage(found[scene.forget.skill]), costs)


def _cost(
    loaded: LoadedModel, split: Split, found: SkillChange, change: Change, plan: FitSettings
) -> KeptCost:
    says_nothing = found.before is not None and found.relative_drop is None
    kl = (
        measure_skill_divergence(loaded, split.validation, None, change, plan).kl_median
        if says_nothing
        else None
    )
    return measure_cost(split.skill, found, kl)
