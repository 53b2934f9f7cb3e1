"""The Unlearn page before the start: minutes, the quick preset, near and unlisted sets; verdicts as drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from pages.record.findings.unlearn_finding import open_unlearning, read_verdicts
from store import Store, default_path, list_jobs, open_store
from tests.pages.reading import press, shown
from tests.pages.unlearning_made import GO, QUICK, RunApp, Skills, failures, page, question_of, told
from workbench.skills.library import add_skill
from workbench.skills.sources import make_skill_source
from workbench.unlearning.answers import UnlearningAnswer


def quick_button(app: AppTest) -> Any:
    return next(button for button in app.button if button.label.startswith("Quick answer (about "))


def test_the_time_is_said_before_the_start_beside_the_quick_one(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app)
    assert "That takes **about " in shown(app)
    assert "by a short measurement of the model" in shown(app)
    assert quick_button(app)
    assert list_jobs(open_store(default_path())) == []


def test_the_quick_answer_fills_the_form_and_starts(run_app: RunApp, skills: Skills) -> None:
    app = quick_button(page(run_app)).click().run()
    assert not app.exception
    assert not failures(app)
    assert app.multiselect(key="methods").value == ["KSD"]
    assert app.toggle(key="controls").value is False
    assert app.toggle(key="robustness").value is True
    assert app.query_params["controls"] == "false"
    [job] = list_jobs(open_store(default_path()))
    assert job.title == "Forget one"
    assert app.dataframe[0].value["measured"][1] == "drop in the worst form"
    assert not [button for button in app.button if button.label.startswith("Quick answer")]


def test_what_cannot_work_is_said_before_the_button_is_pressed(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app, examples="40")
    assert "needs at least 30; use 120 of its" in told(app)
    assert "That takes" not in shown(app)


def test_near_and_unlisted_sets_and_the_guards_choices_are_in_the_address(
    run_app: RunApp, skills: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = dict(skills)
    for name in ("three", "four"):
        lines = [json.loads(line) for line in skills["two"].read_text().splitlines()]
        made = [line | {"prompt": f" {name[0]}{line['prompt']}"} for line in lines[:60]]
        more[name] = tmp_path / f"{name}.jsonl"
        more[name].write_text("\n".join(map(json.dumps, made)))
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", more)
    asked: list[Any] = []
    monkeypatch.setattr(
        "pages.intervene.unlearn.work.load_unlearning_answer",
        lambda loaded, question, pressed: asked.append(question),
    )
    given = {"forget": "one", "retain": "two", "near": "three", "unlisted": "four"}
    page(run_app, **given, measure="gauss", key="user_mean", wrap="on")
    wanted = question_of(
        skills,
        near=(make_skill_source(more["three"]),),
        unlisted=(make_skill_source(more["four"]),),
        measure="gauss",
        key="user_mean",
        wrap=True,
    )
    assert asked[-1] == wanted
    page(run_app, forget="one", retain="two")
    assert (asked[-1].near, asked[-1].unlisted) == ((), ())
    assert (asked[-1].measure, asked[-1].key, asked[-1].wrap) == ("linear", None, None)


def test_a_kept_answer_opens_with_its_near_and_unlisted_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    view: dict[str, object] = {}
    monkeypatch.setattr(
        "pages.record.findings.unlearn_finding.show_page_link", lambda *_, **named: view.update(named)
    )
    asked = {"near": [{"name": "rivers"}], "unlisted": [{"name": "stars"}], "measure": "gauss"}
    open_unlearning({"question": asked | {"key": "user_last", "wrap": True}}, "demo/base")
    assert (view["near"], view["unlisted"]) == (["rivers"], ["stars"])
    assert (view["measure"], view["key"], view["wrap"]) == ("gauss", "user_last", "on")
    open_unlearning({"question": {}}, "demo/base")
    assert (view["near"], view["measure"], view["wrap"]) == ([], "box", "usual")


def test_the_table_on_the_page_is_the_documents(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer]
) -> None:
    app = page(run_app)
    for method, table in zip(answer[1].to_document()["methods"], app.dataframe, strict=False):
        rows = method["verdict"]["rows"]
        assert list(table.value["measured"]) == [row["what"] for row in rows]
        assert list(table.value["bound"]) == [row["bound"] for row in rows]
        marks = {True: "✓ yes", False: "✗ no", None: "not measured"}
        assert list(table.value["kept"]) == [marks[row["within"]] for row in rows]
        for text, row in zip(table.value["value"], rows, strict=True):
            value = None if text == "–" else float(text.replace("−", "-"))
            assert value == (None if row["value"] is None else pytest.approx(row["value"], abs=6e-4))
    kinds = {True: app.success, False: app.error, None: app.info}
    for method in answer[1].to_document()["methods"]:
        drawn = [str(element.value).replace("\\", "") for element in kinds[method["verdict"]["reached"]]]
        assert method["verdict"]["sentence"] in drawn


def test_a_kept_answer_of_an_earlier_version_has_a_verdict_and_an_odd_one_none(
    answer: tuple[Store, UnlearningAnswer],
) -> None:
    document = json.loads(json.dumps(answer[1].to_document()))
    for method in document["methods"]:
        for name in ("verdict", "forms", "worst", "asked", "utility", "cut_off"):
            del method[name]
    made = read_verdicts({"document": document})
    assert [one.method for one in made] == [method["method"] for method in document["methods"]]
    for one, method in zip(made, answer[1].to_document()["methods"], strict=True):
        now = {row["what"]: row["value"] for row in method["verdict"]["rows"]}
        then = {row.what: row.value for row in one.rows}
        assert then["drop in the worst form"] == now["drop in the worst form"]
        assert then["perplexity ratio"] is None
        assert "perplexity, KL on neutral text" in one.sentence
    assert read_verdicts({"document": {"methods": [{}, 3, {"method": "ksd", "skills": "none"}]}}) == ()
    assert read_verdicts({}) == ()


def test_a_sentence_with_markup_in_a_skills_name_is_harmless(run_app: RunApp, skills: Skills) -> None:
    name = "b_x_ $y$"
    add_skill(open_store(default_path()), name, skills["one"].read_bytes(), "jsonl")
    app = press(page(run_app, forget=name, retain="two", methods="KSD", **QUICK), GO)
    drawn = [str(one.value) for kind in (app.success, app.error, app.info) for one in kind]
    sentence = next(text for text in drawn if text.startswith("KSD "))
    assert "$y$" not in sentence
    assert "y" in sentence
