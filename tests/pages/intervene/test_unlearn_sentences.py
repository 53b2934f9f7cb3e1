"""Names of methods, and the point on the frontier, as the Unlearn page has them."""

from __future__ import annotations

from typing import Any

import pytest

from pages.intervene.unlearn.pictures import draw_frontier
from pages.intervene.unlearn.sentences import name_method
from workbench.unlearning.answers import MethodAnswer
from workbench.unlearning.documents import read_method


def skill(name: str, role: str, before: float, after: float) -> dict[str, Any]:
    drop = 1 - after / before if before else None
    ends = None if drop is None else [drop - 0.01, drop + 0.01]
    told = {"skill": name, "role": role, "n": 100, "chance": 0.0, "before": before, "after": after}
    told |= {"before_interval": None, "after_interval": None, "relative_drop": drop, "interval": ends}
    return told | {"corrected_drop": drop, "abstained": 0.0, "perplexity_ratio": None, "warning": ""}


def method(*kept: dict[str, Any], name: str = "ksd") -> MethodAnswer:
    return read_method({"method": name, "skills": [skill("sums", "forget", 0.8, 0.08), *kept]})


def test_an_unknown_method_is_named_as_its_document_has_it() -> None:
    assert name_method(method()) == "KSD"
    assert name_method(method(name="new_way")) == "new_way"


def test_a_point_on_the_frontier_is_drawn_only_where_both_its_numbers_are_known() -> None:
    assert draw_frontier(method(skill("facts", "retain", 0.8, 0.79))).test == pytest.approx((0.0125, 0.9))
    assert draw_frontier(method(skill("facts", "retain", 0.0, 0.0))).test is None
    assert draw_frontier(method()).test == pytest.approx((0.0, 0.9))


def test_candidates_of_the_chosen_layers_are_drawn_with_their_settings() -> None:
    shares = {"forget": 0.75, "worst_retain": 0.25}
    candidates = [
        {"layers": [3], "alpha": 2.0, "margin": 1.1} | shares,
        {"layers": [2, 3], "alpha": 2.0, "margin": 1.2} | shares,
        {"layers": [3], "alpha": 2.5, "margin": None} | shares,
        {"layers": [3], "threshold": 0.5} | shares,
        {"q": 5.0, "forget_drop": 0.5, "worst_retain_drop": None},
        {"block": "L0", "worst_retain": 0.1},
    ]
    told = {"method": "ksd", "skills": [skill("sums", "forget", 0.8, 0.08)], "sweep": candidates}
    drawn = draw_frontier(read_method(told | {"parameters": {"layers": [3]}}))
    assert drawn.labels == ["margin 1.1", "α 2.5", "threshold 0.5", "q 5 %", "block L0"]
    assert drawn.sweep == [(0.25, 0.75)] * 3 + [(0.0, 0.5), (0.1, 0.0)]
