"""What the Unlearn page refuses, each in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store import default_path, list_jobs, open_store
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture
from tests.pages.reading import press, shown
from tests.pages.unlearning_made import GO, Query, RunApp, Skills, page, told

BAD: dict[str, tuple[Query, str]] = {
    "both forget skill and retain skill": (
        {"retain": ["one", "two"]},
        "one cannot be both forget skill and retain skill",
    ),
    "nothing to weigh against": ({"retain": ""}, "give at least one to retain, or choose KSD alone"),
    "too few examples": ({"examples": "40"}, "needs at least 30; use 120 of its"),
    "no such layer": ({"boxes": "7"}, "layer 7 has no dense FFN block"),
}
UNREADABLE: dict[str, tuple[Query, str]] = {
    "no method": ({"methods": ""}, "choose at least one"),
    "layers in words": ({"boxes": "some"}, "write last, best, all, or numbers"),
    "shares in words": ({"shares": "many"}, "write numbers above 0 and up to 100"),
    "a share of nothing": ({"shares": "0, 3"}, "write numbers above 0 and up to 100"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_answered_is_said_in_a_sentence_and_no_job_begins(
    run_app: RunApp, skills: Skills, case: str
) -> None:
    query, message = BAD[case]
    app = page(run_app, **query)
    app.selectbox(key="boxes").options.append("7")  # AppTest knows of no choice that is typed
    press(app, GO)
    assert not app.exception
    assert message in told(app)
    assert list_jobs(open_store(default_path())) == []


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_said_in_a_sentence(run_app: RunApp, skills: Skills, case: str) -> None:
    query, message = UNREADABLE[case]
    assert message in told(page(run_app, **query))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "prompts of one"),
        (
            {"judge": "tests", "tests": ["assert True"], "answer": ""},
            "running model-written code",
        ),
    ],
)
def test_skills_that_share_prompts_and_code_that_nobody_allowed_are_refused(
    run_app: RunApp,
    skills: Skills,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, object],
    message: str,
) -> None:
    lines = [json.loads(line) | changed for line in skills["one"].read_text().splitlines()]
    (tmp_path / "same.jsonl").write_text("\n".join(map(json.dumps, lines)))
    kept = {"same": tmp_path / "same.jsonl"} | ({} if changed else {"one": skills["one"]})
    if changed:
        kept["two"] = skills["two"]
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", kept)
    app = press(page(run_app, forget="one" if "one" in kept else "same"), GO)
    assert message in told(app)


def test_examples_longer_than_the_context_fail_with_a_sentence(
    run_app: RunApp, skills: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.loads(line) for line in skills["two"].read_text().splitlines()]
    long = [line | {"prompt": f"{line['prompt']}{' dog' * 64}"} for line in lines]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, long)))
    given = {"one": skills["one"], "two": tmp_path / "two.jsonl"}
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", given)
    app = press(page(run_app, methods="KSD"), GO)
    assert "longer than the model's context of 64 tokens; use shorter ones" in shown(app)
    assert "Resume" in [button.label for button in app.main.button]


def test_a_model_of_experts_alone_is_offered_what_it_can(
    run_app: RunApp,
    skills: Skills,
    moe_folder: Path,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADLAMP_MODEL", str(moe_folder))
    app = page(run_app)
    assert app.multiselect(key="methods").options == ["Neuron Adjust", "Selective pruning"]
    assert "KSD fits boxes to keys of a dense FFN block" in shown(app)
