"""A method's result in words: what is told, and when the paper's goal counts as reached."""

from __future__ import annotations

from typing import Any

import pytest

from pages.intervene.unlearn.pictures import draw_frontier
from pages.intervene.unlearn.sentences import describe_result, judge_goal, name_form, name_method


def skill(name: str, before: float | None, after: float | None, **more: Any) -> dict[str, Any]:
    drop = 1 - after / before if before and after is not None else None
    ends = None if drop is None else [drop - 0.01, drop + 0.01]
    told = {
        "skill": name,
        "n": 100,
        "before": before,
        "after": after,
        "relative_drop": drop,
        "interval": ends,
    }
    return told | {"abstained": 0.0, "perplexity_ratio": None, "warning": ""} | more


def method(*skills: dict[str, Any], over_refusal: float | None = 0.015, name: str = "ksd") -> dict[str, Any]:
    return {"method": name, "skills": list(skills), "over_refusal": over_refusal}


SUMS = skill("sums", 0.9, 0.09)


def test_the_headline_names_the_fall_the_worst_other_and_the_refusals() -> None:
    found = method(SUMS, skill("facts", 0.8, 0.79), skill("tales", 0.5, 0.48))
    assert describe_result(found) == (
        "**KSD**: sums falls from 0.900 to 0.090 (relative drop 0.900 [0.89, 0.91]); "
        r"worst retain skill tales, relative drop 0.040 [0.03, 0.05]; 3 of 200 retain prompts refused."
    )


def test_a_gain_is_told_as_one() -> None:
    found = method(skill("sums", 0.5, 0.6), skill("facts", 0.8, 0.8))
    assert "sums rises from 0.500 to 0.600 (relative drop −0.200" in describe_result(found)


def test_without_a_drop_or_a_skill_to_keep_that_is_said() -> None:
    weak = skill("sums", 0.02, 0.01, relative_drop=None, interval=None)
    assert "sums falls from 0.020 to 0.010, not above chance before" in describe_result(method(weak))
    assert "there was no retain skill" in describe_result(method(weak, over_refusal=None))
    assert judge_goal(method(weak)).reached is None
    lost = skill("facts", 0.0, 0.0)
    assert "no retain skill has a drop" in describe_result(method(SUMS, lost))


def test_a_perplexity_skill_is_told_by_its_ratio() -> None:
    tales = skill("tales", None, None, perplexity_ratio=3.21, abstained=0.25)
    assert "tales has 3.21 × the perplexity it had, 25% of it refused" in describe_result(method(tales))
    assert judge_goal(method(SUMS, tales)).reached is None
    assert "accuracy does not show whether tales is retained" in judge_goal(method(SUMS, tales)).why


@pytest.mark.parametrize(
    ("forget", "kept", "reached", "why"),
    [
        (0.09, 0.8, True, "drop above 0.8, every retain drop below 0.1"),
        (0.2, 0.8, False, "a drop of 0.778 is not above 0.8"),
        (0.09, 0.7, False, "facts loses 0.125, not below 0.1"),
        (0.2, 0.7, False, "is not above 0.8; facts loses"),
    ],
)
def test_the_goal_needs_both_sides(forget: float, kept: float, reached: bool, why: str) -> None:
    found = judge_goal(method(skill("sums", 0.9, forget), skill("facts", 0.8, kept)))
    assert found.reached is reached
    assert why in found.why.replace("\\", "")


def test_a_goal_that_an_interval_reaches_across_is_doubted() -> None:
    facts = skill("facts", 0.8, 0.75, interval=[0.0, 0.2])
    assert "the interval of facts includes the bound" in judge_goal(method(SUMS, facts)).why
    unsure = SUMS | {"interval": [0.7, 1.0]}
    found = judge_goal(method(unsure, skill("facts", 0.8, 0.8)))
    assert "the interval of sums includes the bound" in found.why


def test_names_of_people_are_escaped_and_unknown_ones_are_said_in_words() -> None:
    assert "<b>" not in describe_result(method(skill("<b>x</b>", 0.9, 0.1)))
    assert name_method(method(SUMS, name="new_way")) == "new_way"
    assert name_form("other_language") == "in another language"
    assert name_form("other_language fr") == "in another language: fr"
    assert name_form("as_a_riddle") == "as a riddle"


def test_a_point_on_the_frontier_is_drawn_only_where_both_its_numbers_are_known() -> None:
    def told(worst: float | None, *kept: dict[str, Any]) -> dict[str, Any]:
        frontier = {"forget_drop": 0.9, "worst_retain_drop": worst}
        return method(SUMS, *kept) | {"parameters": {}, "sweep": [], "frontier": frontier}

    facts = skill("facts", 0.8, 0.79)
    assert draw_frontier(told(0.0125, facts)).test == (0.0125, 0.9)
    assert draw_frontier(told(None, skill("facts", 0.0, 0.0))).test is None
    assert draw_frontier(told(None)).test == (0.0, 0.9)
