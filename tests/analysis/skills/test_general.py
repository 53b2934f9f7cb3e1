"""The shipped general questions: fitted on, never measured on, and not what is to be forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.errors import SkillError
from analysis.skills.general import NAME, list_general_questions, select_general_questions
from analysis.skills.items import Skill, SkillItem
from analysis.skills.splits import find_shared_prompts, split_skill
from analysis.unlearning.scenes import Scene
from bench.capitals import list_sets
from tests.analysis.skills_made import make_skill


def test_no_two_of_them_are_the_same_question() -> None:
    items = list_general_questions()
    assert len({item.prompt.casefold() for item in items}) == len(items) == 162
    assert sum(item.judge == "substring" and bool(item.answer) for item in items) == 60


def test_what_is_to_be_forgotten_is_not_kept() -> None:
    mine = [SkillItem("who wrote  faust?", "Goethe"), SkillItem("Tell me WHO wrote Faust.", "Goethe")]
    kept = select_general_questions(mine)
    assert {item.prompt for item in list_general_questions()} - {item.prompt for item in kept} == {
        "Tell me who wrote Faust."
    }


@pytest.mark.parametrize("role", ["retain", "near", "unlisted"])
def test_what_a_set_asks_is_not_fitted_on(role: str) -> None:
    shipped = Skill("mine", list_general_questions()[:40])
    forget = split_skill(make_skill("forget", 40, (0, 20), 6))
    mine = shipped if role == "unlisted" else split_skill(shipped)
    scene = Scene(**{"forget": forget, "retain": (), role: (mine,)})  # type: ignore[arg-type]
    assert select_general_questions(scene.list_items()) == list_general_questions()[40:]


def test_the_benchmark_asks_others() -> None:
    asked = [SkillItem(item["prompt"], item["answer"]) for item in list_sets()["general"]]
    assert len(asked) == 60
    assert not find_shared_prompts(asked, list_general_questions())


def test_a_skill_cannot_have_their_name() -> None:
    one, two = (
        split_skill(make_skill(name, 40, span, 6)) for name, span in (("a", (0, 20)), ("b", (20, 40)))
    )
    with pytest.raises(SkillError, match=r"'general questions'.*another name"):
        Scene(one, (replace(two, skill=NAME),))
    with pytest.raises(SkillError, match="another name"):
        Scene(one, (two,), unlisted=(Skill(NAME, tuple(two.test)),))
