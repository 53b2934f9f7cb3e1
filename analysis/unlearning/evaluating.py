"""Evaluation of one method on one scene: set on validation, then measured on the test with intervals and
controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.errors import TooFewExamples
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.metrics import measure_change, measure_damage
from analysis.skills.splits import Split
from analysis.skills.tasks import MeasuredItems, measure_items
from analysis.unlearning.guards.key_guards import REFUSAL
from analysis.unlearning.measuring import measure_skill_divergence, measure_under
from analysis.unlearning.methods import find_method
from analysis.unlearning.over_refusal import measure_over_refusal
from analysis.unlearning.results import Baseline, FitSettings, MethodResult, Role, SkillResult
from analysis.unlearning.robustness import measure_robustness
from analysis.unlearning.scenes import Scene
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
    method: str,
    plan: FitSettings,
    base: Baseline,
    pulse: Pulse = lambda done, total: None,
) -> MethodResult:
    """Fit a method on probes, choose on validation, measure once on the test.

    Where nothing is eligible, nothing is chosen: the result is that of the unchanged model.
    """
    plan = replace(plan, ways=replace(plan.ways, max_new_tokens=base.max_new_tokens))
    fitted = find_method(method).fit(loaded, scene, plan, base, pulse)
    chosen = fitted.chosen
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
        parameters=fitted.parameters | {"max_new_tokens": base.max_new_tokens},
        interventions=() if chosen is None else (chosen,),
        skills=skills,
        over_refusal=refused / len(kept) if kept else None,
        sweep=fitted.sweep,
        control=_drops(loaded, scene, base.test, fitted.control, plan, pulse) if fitted.control else {},
        robustness=measure_robustness(loaded, scene.forget, skills[0].unseen, chosen, plan, pulse)
        if plan.robustness and chosen is not None
        else (),
        curve=dict(fitted.curve),
        asked=measure_over_refusal(loaded, scene, chosen, plan, pulse) if chosen is not None else (),
        utility=measure_utility(loaded, () if chosen is None else (chosen,), plan, base.mmlu, pulse),
        cut_off=base.cut_off,
    )


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
        measure_skill_divergence(loaded, split.test, now, chosen, plan),
    )


def _part(measured: MeasuredItems, flags: Sequence[bool], wanted: bool) -> MeasuredItems:
    kept = [i for i, flag in enumerate(flags) if flag == wanted]
    return MeasuredItems(tuple(measured.items[i] for i in kept), tuple(measured.verdicts[i] for i in kept), 0)
