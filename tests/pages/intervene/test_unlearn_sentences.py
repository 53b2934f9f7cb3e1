"""Names of methods, and the point on the frontier, as the Unlearn page has them."""

from __future__ import annotations

from typing import Any

from pages.intervene.unlearn.pictures import draw_frontier
from pages.intervene.unlearn.sentences import name_method


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


def test_an_unknown_method_is_named_as_its_document_has_it() -> None:
    assert name_method(method(SUMS)) == "KSD"
    assert name_method(method(SUMS, name="new_way")) == "new_way"


def test_a_point_on_the_frontier_is_drawn_only_where_both_its_numbers_are_known() -> None:
    def told(worst: float | None, *kept: dict[str, Any]) -> dict[str, Any]:
        frontier = {"forget_drop": 0.9, "worst_retain_drop": worst}
        return method(SUMS, *kept) | {"parameters": {}, "sweep": [], "frontier": frontier}

    facts = skill("facts", 0.8, 0.79)
    assert draw_frontier(told(0.0125, facts)).test == (0.0125, 0.9)
    assert draw_frontier(told(None, skill("facts", 0.0, 0.0))).test is None
    assert draw_frontier(told(None)).test == (0.0, 0.9)
