"""Links to stored runs: the page of each kind with its parameters, whatever an odd run holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pages.shared.links.questions import make_pruning_view, make_unlearn_view
from pages.shared.links.runs import describe_stored_run
from store import Run

RUN = Run(
    *("key", "kind", "1", "fingerprint", "m", "float32", "cpu"),
    parameters={},
    versions={},
    seed=3,
    units=1,
    created_at="",
    finished_at=None,
    seconds=0.0,
    stored_units=1,
    bytes=0,
)
PAGES = {
    "decode": "/neurons",
    "find": "/neurons",
    "generate": "/clamp",
    "levers": "/neurons",
    "sweep": "/neurons",
    "experts": "/experts",
    "prune": "/experts",
    "unlearn": "/unlearn",
    "tars": "/unlearn",
    "keyspace": "/skills",
}
ODD: list[dict[str, Any]] = [
    {},
    {"prompt": 3, "clamps": [3], "turns": ["x"], "word": [], "neurons": {}, "groups": [[3]], "window": True},
    {"forget": "x", "retain": 3, "layers": [[]], "shares": "x", "skill": None, "concept": {}, "site": 1},
]


@pytest.mark.parametrize("asked", ODD)
@pytest.mark.parametrize("kind", PAGES)
def test_an_odd_run_still_leads_to_its_page(kind: str, asked: dict[str, Any]) -> None:
    name, page, view = describe_stored_run(replace(RUN, kind=kind, parameters=asked))
    assert page == PAGES[kind]
    assert name
    assert view["model"] == "m"


def test_a_generation_opens_with_everything_that_was_asked() -> None:
    asked = {"prompt": "Say", "clamps": [["L1.N3:ablate", 0.0]], "turns": [["user", "Hi"]], "raw": True}
    name, _, view = describe_stored_run(replace(RUN, kind="generate", parameters=asked | {"temperature": 0}))
    assert "on “Say”" in name
    assert (view["prompt"], view["clamps"], view["turns"]) == ("Say", "L1.N3:ablate", "user: Hi")
    assert (view["raw"], view["temperature"], view["seed"]) == ("true", 0, 3)


def test_a_text_is_in_the_link_only_where_profile_and_evaluation_share_it() -> None:
    asked = {"groups": [[["L1.E2", "L0.E1"]], [], []], "draws": 2, "text": "digest", "split": True}
    assert make_pruning_view(asked | {"window": 64}) == {
        "prune": "L1.E2, L0.E1", "draws": 2, "calibration": "digest", "window": 64,
    }  # fmt: skip
    assert make_pruning_view(asked | {"split": False, "window": 2048})["calibration"] is None


def test_a_question_from_before_there_was_a_choice_opens_as_it_was_asked() -> None:
    view = make_unlearn_view({"forget": {"name": "rivers"}, "layers": [1, 3], "shares": [0.5, 3]})
    assert (view["measure"], view["wrap"], view["key"]) == ("box", "usual", "usual")
    assert (view["forget"], view["shares"]) == ("rivers", "0.5, 3")
    assert "1,3" in view.values()
