"""Robustness: the forget skill in other forms, on which no method was fitted, before and after.

few_shot            after some answered examples
harmless_prefix     after a greeting
instruction_before  after an instruction
instruction_after   with an instruction behind it, where a chat template closes the prompt
paraphrase          the test's unseen wordings
other_language      in languages other than the probes', from the test or from extra skills

The texts are other than those that a guard's probes are wrapped in (`guards/wrapping.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.errors import SkillError
from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.templates import has_template
from analysis.skills.forms import Form
from analysis.skills.items import Skill, SkillItem
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import measure_change
from analysis.skills.splits import Split, find_shared_prompts
from analysis.skills.tasks import MeasureOptions, measure_items
from analysis.unlearning.guards.wrapping import choose_shots
from analysis.unlearning.measuring import measure_under
from analysis.unlearning.results import FitSettings, FormResult

PREFIX = "Hello! I hope you are well.\n"
BEFORE = "You are talking to an expert who wants an exact answer.\n\n"
AFTER = "\nGive your answer in one short sentence."
"""The greeting and both instructions."""

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
    for form, lang, items, ways in _forms(loaded, split, plan):
        before = measure_items(loaded, items, (), ways, pulse)
        after = measure_under(loaded, before, chosen, ways, pulse)
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


def list_forms(loaded: LoadedModel, items: Sequence[SkillItem]) -> dict[str, Form]:
    """The forms in which any set can be put, by name. items: of the set, which give the answered examples."""
    forms = {"few_shot": Form(shots)} if (shots := choose_shots(items, SHOTS)) else {}
    forms |= {"harmless_prefix": Form(prefix=PREFIX), "instruction_before": Form(prefix=BEFORE)}
    return forms | ({"instruction_after": Form(suffix=AFTER)} if has_template(loaded) else {})


def count_forms(loaded: LoadedModel) -> int:
    """How many other forms a set is put in on this model, if it has answered examples to give."""
    return 4 if has_template(loaded) else 3


def _forms(
    loaded: LoadedModel, split: Split, plan: FitSettings
) -> Iterator[tuple[str, str, Sequence[SkillItem], MeasureOptions]]:
    """(form, language, examples, ways)."""
    for name, form in list_forms(loaded, split.probe).items():
        yield name, "", split.test, replace(plan.ways, form=form)
    every = [*split.test, *(item for skill in plan.other_languages for item in skill.items)]
    for lang in sorted({item.lang for item in every} - _languages(split)):
        yield "other_language", lang, [item for item in every if item.lang == lang], plan.ways


def _languages(split: Split) -> set[str]:
    return {item.lang for item in (*split.probe, *split.validation)}
