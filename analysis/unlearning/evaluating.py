"""Evaluation of one method on one scene: set on validation, then measured on the test with intervals and
controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from analysis.errors import TooFewExamples
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.answers import refusal_ids
from analysis.skills.items import SkillItem
from analysis.skills.likelihoods import score_next_tokens
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import Divergence, measure_change, measure_damage, measure_divergence
from analysis.skills.splits import Split
from analysis.skills.tasks import MeasuredItems, measure_items
from analysis.unlearning.edits.neuron_shares import (
    FrontierPoint,
    KeptCost,
    choose_candidate,
    draw_control,
    explain_none,
    list_candidates,
    measure_cost,
    measure_moments,
)
from analysis.unlearning.guarding import fit_described_guard
from analysis.unlearning.guards.key_guards import REFUSAL
from analysis.unlearning.guards.linear_guards import Guard
from analysis.unlearning.measuring import measure_under, only_reads
from analysis.unlearning.over_refusal import measure_over_refusal
from analysis.unlearning.results import Baseline, FitSettings, MethodResult, Role, SkillResult
from analysis.unlearning.robustness import measure_robustness
from analysis.unlearning.scenes import Method, Scene, encode_queries
from analysis.unlearning.token_limits import answer_within_limit
from analysis.unlearning.utility import measure_utility

ENOUGH_TO_LIMIT = 20
"""Examples of a skill's validation that show whether answers are cut off."""


def measure_baseline(
    loaded: LoadedModel,
    scene: Scene,
    plan: FitSettings,
    pulse: Pulse = lambda done, total: None,
    *,
    validate: bool = True,
) -> Baseline:
    """Measure every skill on the unchanged model, with a limit on tokens that is raised by itself.

    validate: whether a method is to be chosen by validation's answers; without, only so many are measured as
    show whether they are cut off. Raises TooFewExamples if a skill has no test examples.
    """
    for split in scene.splits:
        if not split.test:
            raise TooFewExamples(
                f"{split.skill} has no test example: its examples form too few groups, and no split "
                "divides a group; give it more, or leave it out"
            )
    most = None if validate else ENOUGH_TO_LIMIT
    parts = {split.skill: split.validation[:most] for split in scene.splits}
    validation, limit = answer_within_limit(loaded, parts, plan.ways, pulse)
    ways = replace(plan.ways, max_new_tokens=limit)
    test = {split.skill: measure_items(loaded, split.test, (), ways, pulse) for split in scene.splits}
    mmlu = None if plan.mmlu is None else measure_items(loaded, plan.mmlu.items, (), ways, pulse)
    return Baseline(validation, test, limit, mmlu)


def evaluate_method(
    loaded: LoadedModel,
    scene: Scene,
    method: Method,
    plan: FitSettings,
    base: Baseline,
    pulse: Pulse = lambda done, total: None,
) -> MethodResult:
    """Fit a method on probes, choose on validation, measure once on the test.

    Where nothing is eligible, nothing is chosen: the result is that of the unchanged model.
    """
    plan = replace(plan, ways=replace(plan.ways, max_new_tokens=base.max_new_tokens))
    fit = _fit_guard if method == "ksd" else _fit_share
    parameters, chosen, sweep, control, curve = fit(loaded, scene, method, plan, base, pulse)
    after = base.test
    if chosen is not None:
        after = {
            name: measure_under(loaded, before, chosen, plan.ways, pulse)
            for name, before in base.test.items()
        }
    skills = tuple(
        _skill_result(loaded, split, "retain" if i else "forget", base.test, after, chosen, plan)
        for i, split in enumerate(scene.splits)
    )
    kept = [v for split in scene.retain for v in after[split.skill].verdicts]
    refused = sum(v.abstained or REFUSAL in v.text for v in kept)
    return MethodResult(
        method=method,
        parameters=parameters | {"max_new_tokens": base.max_new_tokens},
        interventions=() if chosen is None else (chosen,),
        skills=skills,
        over_refusal=refused / len(kept) if kept else None,
        sweep=sweep,
        control=_drops(loaded, scene, base.test, control, plan, pulse) if control else {},
        robustness=measure_robustness(loaded, scene.forget, skills[0].unseen, chosen, plan, pulse)
        if plan.robustness and chosen is not None
        else (),
        curve=curve,
        asked=measure_over_refusal(loaded, scene, chosen, plan, pulse) if chosen is not None else (),
        utility=measure_utility(loaded, () if chosen is None else (chosen,), plan, base.mmlu, pulse),
        cut_off=base.cut_off,
    )


_Fit = tuple[dict[str, Any], Change | None, tuple[dict[str, Any], ...], Change | None, dict[str, list[float]]]
"""Parameters, the chosen intervention (None: none is eligible), the candidates, the control, and curves on
the test."""


def _fit_guard(
    loaded: LoadedModel, scene: Scene, method: Method, plan: FitSettings, base: Baseline, pulse: Pulse
) -> _Fit:
    found = fit_described_guard(loaded, scene, plan, pulse)
    return found.parameters, found.guard, found.sweep, found.control, found.curve


def _fit_share(
    loaded: LoadedModel, scene: Scene, method: Method, plan: FitSettings, base: Baseline, pulse: Pulse
) -> _Fit:
    moments = measure_moments(loaded, scene, pulse, as_released=plan.as_released)
    points, tried = [], []
    how: dict[str, Any] = {"seed": plan.seed, "as_released": plan.as_released}
    for q, change in list_candidates(loaded, method, moments, plan.shares, **how):
        points.append(_point(loaded, scene, q, change, plan, base, pulse))
        tried.append(change)
    best = choose_candidate(points)
    sweep = tuple(point.document() for point in points)
    if best is None:
        return {"q": None, "why": explain_none(points)} | how, None, sweep, None, {}
    point, chosen = points[best], tried[best]
    parameters = {"q": point.q, "neurons": chosen.count} | how
    parameters["validation"] = {
        "forget_drop": point.forget_drop,
        "worst_retain_drop": point.worst_retain_drop,
    }
    control = draw_control(loaded, method, moments, point.q, **how) if plan.controls else None
    return parameters, chosen, sweep, control, {}


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
    kl = _divergence(loaded, split.validation, None, change, plan).kl_median if says_nothing else None
    return measure_cost(split.skill, found, kl)


def _drops(
    loaded: LoadedModel,
    scene: Scene,
    base: Mapping[str, MeasuredItems],
    change: Change,
    plan: FitSettings,
    pulse: Pulse,
) -> dict[str, float | None]:
    """Every skill's `measure_damage` on its test."""
    return {
        split.skill: measure_damage(
            measure_change(
                base[split.skill], measure_under(loaded, base[split.skill], change, plan.ways, pulse)
            )
        )
        for split in scene.splits
    }


def _skill_result(
    loaded: LoadedModel,
    split: Split,
    role: Role,
    base: Mapping[str, MeasuredItems],
    after: Mapping[str, MeasuredItems],
    chosen: Change | None,
    plan: FitSettings,
) -> SkillResult:
    before, now = base[split.skill], after[split.skill]
    unseen_of = dict(zip(split.test, split.unseen, strict=True))
    unseen = [unseen_of[item] for item in before.items]
    both = role == "forget" and any(unseen) and not all(unseen)
    part = (
        [
            measure_change(_part(before, unseen, want), _part(now, unseen, want), plan.seed)
            for want in (True, False)
        ]
        if both
        else [None, None]
    )
    whole = measure_change(before, now, plan.seed)
    return SkillResult(
        split.skill,
        role,
        whole,
        part[0],
        part[1],
        _divergence(loaded, split.test, now, chosen, plan),
    )


def _part(measured: MeasuredItems, flags: Sequence[bool], wanted: bool) -> MeasuredItems:
    kept = [i for i, flag in enumerate(flags) if flag == wanted]
    return MeasuredItems(tuple(measured.items[i] for i in kept), tuple(measured.verdicts[i] for i in kept), 0)


def _divergence(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    now: MeasuredItems | None,
    chosen: Change | None,
    plan: FitSettings,
) -> Divergence:
    """Of the tokens that follow a skill's prompts. now: the same prompts measured under the change, if known:
    what a guard lets pass has not changed at all.
    """
    if chosen is None:
        return Divergence(len(items), 0.0, 0.0, 0.0)
    known = now is not None and only_reads(chosen)
    ids = encode_queries(loaded, now.items if now is not None and known else items, plan.ways.form)
    base, _ = score_next_tokens(loaded, ids, batch_size=plan.ways.batch_size)
    if now is not None and known:
        changed, refused = base, torch.tensor([verdict.abstained for verdict in now.verdicts])
    else:
        changed, refused = score_next_tokens(loaded, ids, [chosen], batch_size=plan.ways.batch_size)
    refusal = chosen.refusal if isinstance(chosen, Guard) else REFUSAL
    return measure_divergence(base, changed, refused, refusal_ids(loaded, refusal)[0])
