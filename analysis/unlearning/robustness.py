"""The forget skill asked in other forms, before and after: what nobody fitted a method on.

few_shot         after some answered probes
harmless_prefix  after a greeting
paraphrase       in wordings that neither probe nor validation has: the test's unseen part
other_language   in languages that the probes are not in, from the test or from skills given for this alone
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.errors import SkillError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.items import Skill, SkillItem
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import compared
from analysis.skills.splits import Split, shared_prompts
from analysis.skills.tasks import Form, Ways, measure
from analysis.unlearning.results import Plan, Robust

PREFIX = "Hello! I hope you are well.\n"
"""The harmless prefix."""

SHOTS = 3


def robustness(
    loaded: LoadedModel,
    split: Split,
    unseen: SkillChange | None,
    chosen: Change,
    plan: Plan,
    pulse: Pulse = lambda done, total: None,
) -> tuple[Robust, ...]:
    """Every form that the skill has. unseen: what was found on the test's unseen wordings, if any."""
    found = [] if unseen is None else [Robust("paraphrase", unseen)]
    for form, lang, items, ways in _forms(split, plan):
        before, after = (measure(loaded, items, change, ways, pulse) for change in ((), (chosen,)))
        found.append(Robust(form, compared(before, after, plan.seed), lang))
    return tuple(found)


def check_languages(splits: Sequence[Split], others: Sequence[Skill]) -> None:
    """Raises SkillError where a skill in another language is in the probes' own, or not apart from the scene.

    splits: of the scene, the forget skill's first.
    """
    known = _languages(splits[0])
    for skill in others:
        if all(item.lang in known for item in skill.items):
            raise SkillError(
                f"{skill.name} is in {', '.join(sorted(known))}, as the probes of {splits[0].skill} are; "
                'give the skill in another language, and say which in "lang"'
            )
        for split in splits:
            both = shared_prompts(skill.items, [*split.probe, *split.validation, *split.test])
            if both:
                raise SkillError(
                    f"{len(both)} prompts of {skill.name}, {both[0][:60]!r} first, are in {split.skill} too, "
                    "on which methods are fitted; another language is only measured, so take them out of one"
                )


def _forms(split: Split, plan: Plan) -> Iterator[tuple[str, str, Sequence[SkillItem], Ways]]:
    """(form, language, examples, ways)."""
    shots = tuple(item for item in split.probe if item.judge in ("number", "substring", "exact"))[:SHOTS]
    if shots:
        yield "few_shot", "", split.test, replace(plan.ways, form=Form(shots))
    yield "harmless_prefix", "", split.test, replace(plan.ways, form=Form(prefix=PREFIX))
    every = [*split.test, *(item for skill in plan.other_languages for item in skill.items)]
    for lang in sorted({item.lang for item in every} - _languages(split)):
        yield "other_language", lang, [item for item in every if item.lang == lang], plan.ways


def _languages(split: Split) -> set[str]:
    return {item.lang for item in (*split.probe, *split.validation)}
