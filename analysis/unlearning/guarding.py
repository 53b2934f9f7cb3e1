"""A guard fitted as a question wants it, with its control, its candidates and its curve on the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import COUNT, read_unrelated_queries
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.unlearning.guards.guard_fits import (
    GuardFit,
    fit_guard,
    measure_guard_curve,
    measure_unrelated_depths,
    shuffle_probes,
)
from analysis.unlearning.guards.key_boxes import KeyBox
from analysis.unlearning.guards.linear_fits import THRESHOLDS, fit_linear_guard, score_queries
from analysis.unlearning.guards.linear_guards import Guard
from analysis.unlearning.guards.operating import measure_abstention
from analysis.unlearning.results import FitSettings
from analysis.unlearning.scenes import Scene, encode_queries


@dataclass(frozen=True)
class DescribedGuard:
    """A guard; what a result says of it; its candidates on validation; a guard of shuffled probes; and the
    share of every test refused at each point of a curve.
    """

    guard: Guard
    parameters: dict[str, Any]
    sweep: tuple[dict[str, Any], ...]
    control: Guard | None
    curve: dict[str, list[float]] = field(default_factory=dict)


def fit_described_guard(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, pulse: Pulse = lambda done, total: None
) -> DescribedGuard:
    """Fit by the measure that the plan asks for. Raises TooFewExamples, SkillError."""
    with_control = plan.controls and bool(scene.retain)
    mixed = shuffle_probes(scene, plan.seed) if with_control else None
    return (_fit_linear if plan.measure == "linear" else _fit_boxes)(loaded, scene, plan, mixed, pulse)


_Probes = Mapping[str, Sequence[SkillItem]] | None


def _fit_linear(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, mixed: _Probes, pulse: Pulse
) -> DescribedGuard:
    how: dict[str, Any] = {"layers": plan.layers, "key": plan.key, "wrap": plan.wrap, "pulse": pulse}
    fit = fit_linear_guard(loaded, scene, **how)
    guard = fit.guard
    validation = {"forget": fit.forget, "worst_retain": fit.worst_retain}
    parameters = {
        "measure": "linear",
        "layers": list(guard.layers),
        "key": guard.key,
        "wrapped": plan.wrap,
        "n": guard.n,
        "rivals": list(guard.against),
        "threshold": guard.threshold,
        "check": guard.check_at,
        "validation": validation,
    }
    tests = {split.skill: encode_queries(loaded, split.test) for split in scene.splits if split.test}
    tests[UNRELATED] = [ids for _, ids in read_unrelated_queries(loaded, COUNT)]
    scores = {name: score_queries(loaded, ids, guard) for name, ids in tests.items() if ids}
    unrelated = scores.get(UNRELATED)
    parameters["unrelated"] = {
        "refused": 0.0 if unrelated is None else float((unrelated >= guard.threshold).double().mean()),
        "n": 0 if unrelated is None else len(unrelated),
    }
    return DescribedGuard(
        guard,
        parameters,
        tuple(
            {"layers": list(guard.layers), "threshold": point, "forget": forgot, "worst_retain": worst}
            for point, forgot, worst in fit.curve
        ),
        None if mixed is None else fit_linear_guard(loaded, scene, probes=mixed, **how).guard,
        {name: _shares_above(found) for name, found in scores.items()},
    )


def _shares_above(scores: Tensor) -> list[float]:
    return [float((scores >= threshold).double().mean()) for threshold in THRESHOLDS]


def _fit_boxes(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, mixed: _Probes, pulse: Pulse
) -> DescribedGuard:
    how: dict[str, Any] = {
        "rivals": plan.rivals,
        "check_at": plan.check_at,
        "as_released": plan.as_released,
        "measure": plan.measure,
        "key": plan.key,
        "wrap": plan.wrap,
        "max_new_tokens": plan.ways.max_new_tokens,
        "pulse": pulse,
    }
    fit = fit_guard(loaded, scene, layers=plan.layers, **how)
    guard = fit.guard
    layers = tuple(box.layer for box in guard.boxes)
    curve = measure_guard_curve(loaded, guard, {split.skill: split.test for split in scene.splits})
    unrelated = measure_unrelated_depths(loaded, guard)
    curve[UNRELATED] = measure_abstention(unrelated)
    parameters = {
        "measure": guard.measure,
        "layers": list(layers),
        "alpha": guard.alpha,
        "margin": guard.margin if guard.rivals else None,
        "rivals": [rival.skill for rival in guard.rivals],
        "k": [box.k for box in guard.boxes if isinstance(box, KeyBox)] or None,
        "n": guard.boxes[0].n,
        "key": guard.key,
        "wrapped": plan.wrap,
        "check": guard.check_at,
        "as_released": guard.as_released,
        "validation": {"forget": fit.chosen.chosen.forget, "worst_retain": fit.chosen.chosen.worst_retain},
        "unrelated": {
            "refused": measure_abstention(unrelated, [guard.alpha])[0],
            "n": len(unrelated),
        },
    }
    control = None if mixed is None else fit_guard(loaded, scene, layers=layers, probes=mixed, **how).guard
    return DescribedGuard(guard, parameters, _list_points(fit), control, curve)


def _list_points(fit: GuardFit) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "layers": list(one.layers),
            "alpha": point.alpha,
            "margin": point.margin,
            "forget": point.forget,
            "worst_retain": point.worst_retain,
        }
        for one in fit.curves
        for point in one.curve
    )
