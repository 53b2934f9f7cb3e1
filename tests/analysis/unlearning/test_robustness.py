"""The forget skill in another language: measured before and after, never fitted on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.items import Skill
from analysis.skills.metrics import measure_change
from analysis.skills.tasks import measure_items
from analysis.unlearning.guards.guard_fits import fit_guard
from analysis.unlearning.robustness import check_languages, measure_robustness
from analysis.unlearning.scenes import Scene
from tests.analysis.skills_made import make_skill
from tests.analysis.unlearning.evaluations_made import PLAN, answered, run, scene

__all__ = ["scene"]


def foreign(loaded: LoadedModel, lang: str = "fr") -> Skill:
    """A skill in words between those of the scene's two, all of it right."""
    skill = answered(loaded, make_skill(f"one-{lang}", 20, (28, 40), 2))
    return Skill(skill.name, tuple(replace(item, lang=lang) for item in skill.items))


def test_another_language_is_measured_before_and_after(llama: LoadedModel, scene: Scene) -> None:
    french, spanish = foreign(llama), foreign(llama, "es")
    found, _ = run(llama, scene, "sp", other_languages=(french, spanish), controls=False)
    assert [(r.form, r.lang) for r in found.robustness[-2:]] == [
        ("other_language", "es"),
        ("other_language", "fr"),
    ]
    own = measure_change(
        measure_items(llama, french.items, (), PLAN.ways),
        measure_items(llama, french.items, found.interventions, PLAN.ways),
    )
    assert found.robustness[-1].change == own
    assert own.before == 1.0
    assert own.after is not None
    assert 0 < own.after < 1


def test_nothing_is_fitted_on_it(llama: LoadedModel, scene: Scene) -> None:
    without, _ = run(llama, scene, "ksd", controls=False)
    with_it, _ = run(llama, scene, "ksd", other_languages=(foreign(llama),), controls=False)
    assert with_it.parameters == without.parameters
    assert with_it.skills == without.skills
    assert with_it.robustness[:4] == without.robustness


def test_a_test_in_a_language_that_no_probe_has_counts_too(llama: LoadedModel, scene: Scene) -> None:
    test = tuple(replace(item, lang="fr") if i < 7 else item for i, item in enumerate(scene.forget.test))
    guard = fit_guard(llama, scene).guard
    found = measure_robustness(llama, replace(scene.forget, test=test), None, guard, PLAN)
    assert [(r.form, r.lang, r.change.n) for r in found[3:]] == [("other_language", "fr", 7)]


@pytest.mark.parametrize("part", ["probe", "validation"])
def test_a_language_that_methods_saw_is_no_other(llama: LoadedModel, scene: Scene, part: str) -> None:
    one, *rest = getattr(scene.forget, part)
    changed: dict[str, Any] = {part: (replace(one, lang="fr"), *rest)}
    seen = replace(scene.forget, **changed)
    guard = fit_guard(llama, scene).guard
    plan = replace(PLAN, other_languages=(foreign(llama),))
    assert not any(r.form == "other_language" for r in measure_robustness(llama, seen, None, guard, plan))
    with pytest.raises(SkillError, match="one-fr is in en, fr, as the probes of one are"):
        check_languages([seen, *scene.retain], plan.other_languages)


def test_what_is_kept_cannot_be_the_other_language(llama: LoadedModel, scene: Scene) -> None:
    kept = Skill("copy", tuple(replace(item, lang="fr") for item in scene.retain[0].validation))
    with pytest.raises(SkillError, match=r"prompts of copy, .* are in two too, on which methods are fitted"):
        check_languages(scene.splits, [kept])
    check_languages(scene.splits, [foreign(llama)])
