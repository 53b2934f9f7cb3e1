"""A guard fitted as a question wants it, with its control, its candidates and its curve on the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.general import NAME as GENERAL
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import COUNT, PROBES, read_unrelated_queries
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.unlearning.guards.guard_fits import (
    GuardFit,
    fit_guard,
    measure_guard_curve,
    measure_unrelated_depths,
    shuffle_probes,
)
from analysis.unlearning.guards.key_boxes import KeyBox, dense_block, dense_layers
from analysis.unlearning.guards.linear_fits import MOST_FITTED, THRESHOLDS, fit_linear_guard, score_queries
from analysis.unlearning.guards.operating import measure_abstention
from analysis.unlearning.passes import ExamplePass
from analysis.unlearning.records import FittedMethod
from analysis.unlearning.results import Baseline, FitSettings
from analysis.unlearning.scenes import Scene, encode_queries


def fit_described_guard(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, base: Baseline, pulse: Pulse
) -> FittedMethod:
    """Fit a guard by the measure that the plan asks for; no answer of the model's is needed. Raises
    TooFewExamples, SkillError.
    """
    with_control = plan.controls and bool(scene.retain)
    mixed = shuffle_probes(scene, plan.seed) if with_control else None
    return (_fit_linear if plan.measure == "linear" else _fit_boxes)(loaded, scene, plan, mixed, pulse)


def why_no_guard(loaded: LoadedModel) -> str:
    """Why a model can have no guard; empty if it can."""
    if dense_layers(loaded):
        return ""
    return (
        "KSD fits boxes to keys of a dense FFN block, which every query passes; this model has only experts"
    )


def check_layers(loaded: LoadedModel, plan: FitSettings) -> None:
    """Raise SkillError for a layer that has no dense FFN block."""
    for layer in plan.layers if not isinstance(plan.layers, str) else ():
        dense_block(loaded, layer)


def list_guard_fits(scene: Scene, plan: FitSettings) -> Iterator[ExamplePass]:
    """The passes of a fit: probes and validation of all sets, in other forms too where they are wrapped."""
    rivals = plan.rivals and bool(scene.retain)
    for split in (*scene.splits, *scene.near) if rivals else (scene.forget,):
        yield ExamplePass(split.skill, _count_fitted(plan, len(split.probe)))
    if rivals:
        yield ExamplePass(UNRELATED, PROBES)
        if plan.measure == "linear":
            yield ExamplePass(GENERAL, MOST_FITTED)
    for split in scene.splits:
        yield ExamplePass(split.skill, _count_fitted(plan, len(split.validation)))
        if plan.check_at == "each_step":
            yield ExamplePass(split.skill, len(split.validation), answered=True)


def _count_fitted(plan: FitSettings, n: int) -> int:
    """How many queries a guard reads of n examples: with wrapping each in one more form."""
    found = 2 * n if plan.wrap else n
    return min(found, MOST_FITTED) if plan.measure == "linear" else found


_Probes = Mapping[str, Sequence[SkillItem]] | None


def _fit_linear(
    loaded: LoadedModel, scene: Scene, plan: FitSettings, mixed: _Probes, pulse: Pulse
) -> FittedMethod:
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
    return FittedMethod(
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
) -> FittedMethod:
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
    return FittedMethod(guard, parameters, _list_points(fit), control, curve)


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
