"""Robustness: the forget skill in other forms, on which no method was fitted, before and after.

few_shot         after some answered probes
harmless_prefix  after a greeting
paraphrase       the test's unseen wordings
other_language   in languages other than the probes', from the test or from extra skills
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.errors import SkillError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.forms import Form
from analysis.skills.items import Skill, SkillItem
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import measure_change
from analysis.skills.splits import Split, find_shared_prompts
from analysis.skills.tasks import MeasureOptions, measure_items
from analysis.unlearning.results import FitSettings, FormResult

PREFIX = "Hello! I hope you are well.\n"
"""The harmless prefix."""

SHOTS = 3


def measure_robustness(
    loaded: LoadedModel,
    split: Split,
    unseen: SkillChange | None,
    chosen: Change,
    plan: FitSettings,
    pulse: Pulse = lambda done, total: None,
) -> tuple[FormResult, ...]:
    """Measure every form that the skill allows. unseen: the result on the test's unseen wordings, if any."""
    found = [] if unseen is None else [FormResult("paraphrase", unseen)]
    for form, lang, items, ways in _forms(split, plan):
        before, after = (measure_items(loaded, items, change, ways, pulse) for change in ((), (chosen,)))
        found.append(FormResult(form, measure_change(before, after, plan.seed), lang))
    return tuple(found)


def check_languages(splits: Sequence[Split], others: Sequence[Skill]) -> None:
    """Raise SkillError if a skill in another language is in the probes' language, or overlaps with the scene.

    splits: of the scene, the forget skill's first.
    """
    known = _languages(splits[0])
    for skill in others:
        if all(item.lang in known for item in skill.items):
            raise SkillError(
                f"{skill.name} is in {', '.join(sorted(known))}, as the probes of {splits[0].skill} are; "
                'give the skill in another language, and name it in "lang"'
            )
        for split in splits:
            both = find_shared_prompts(skill.items, [*split.probe, *split.validation, *split.test])
            if both:
                raise SkillError(
                    f"{len(both)} prompts of {skill.name}, {both[0][:60]!r} first, are in {split.skill} too, "
                    "on which methods are fitted; remove them from one of the two"
                )


def _forms(split: Split, plan: FitSettings) -> Iterator[tuple[str, str, Sequence[SkillItem], MeasureOptions]]:
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
