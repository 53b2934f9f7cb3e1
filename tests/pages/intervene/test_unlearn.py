"""The Unlearn page: its four states, its address, and what can be taken away."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from pages.record.findings.unlearn_finding import open_unlearning
from pages.shared import state
from pages.shared.links.questions import make_unlearn_view
from store import Store, default_path, list_findings, list_jobs, list_runs, open_store, read_unit
from store.errors import StoreFull
from tests.pages.explore.experts_made import moe_folder  # noqa: F401 - a fixture
from tests.pages.job_rows import ended, work_with
from tests.pages.reading import elements, html_of, labels, press, shown
from tests.pages.unlearning_made import (
    GO,
    QUICK,
    Query,
    RunApp,
    Skills,
    failures,
    judged,
    page,
    question_of,
    told,
)
from tests.workbench.jobs.job_engines import Gate, Watched, failing_once
from workbench.unlearning.answers import UnlearningAnswer


def test_nothing_was_asked_yet_and_the_page_says_what_to_do(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app)
    assert "forget **one** by KSD, Neuron Adjust, Selective pruning, and retain two" in shown(app)
    assert GO in [button.label for button in app.button]
    assert not app.subheader
    assert list_jobs(open_store(default_path())) == []


def test_pressing_answers_the_question_and_a_refresh_finds_it(run_app: RunApp, skills: Skills) -> None:
    app = press(page(run_app, methods="KSD", **QUICK), GO)
    assert not app.exception
    assert not failures(app)
    assert [heading.value for heading in app.subheader] == [
        *("Before and after", "Other forms of one", "Frontier", "Refused over threshold: KSD"),
        *("The test", "Export", "Ask it something"),
    ]
    assert app.query_params["methods"] == "KSD"
    again = page(run_app, methods="KSD", **QUICK)
    assert len(again.subheader) == 7
    assert len(list_jobs(open_store(default_path()))) == 1


def test_the_address_says_what_is_forgotten_kept_and_how(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app, forget="two", methods=["Selective pruning"], examples="90", check="each_step")
    assert "forget **two** by Selective pruning, and retain one" in shown(app)
    alone = page(run_app, retain="", methods="KSD")
    assert "forget **one** by KSD, and retain nothing" in shown(alone)


def test_choosing_another_skill_keeps_the_one_before(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app, methods="Selective pruning")
    app.selectbox(key="forget").set_value("two").run()
    assert app.multiselect(key="retain").value == ["one"]
    assert "forget **two**" in shown(app)


def test_choosing_another_skill_leaves_a_choice_of_what_is_kept(
    run_app: RunApp, skills: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = shutil.copy(skills["one"], tmp_path / "three.jsonl")
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", skills | {"three": third})
    app = page(run_app, retain="three")
    app.selectbox(key="forget").set_value("two").run()
    assert app.multiselect(key="retain").value == ["three"]
    app.selectbox(key="forget").set_value("three").run()
    assert app.multiselect(key="retain").value == []


def test_a_link_that_names_an_unknown_skill_says_so(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app, forget="<b>poems</b>")
    assert "There is no skill called <b>poems</b> here" in told(app)
    assert "forget **one**" in shown(app)


def test_nothing_to_keep_is_allowed(run_app: RunApp, skills: Skills) -> None:
    app = press(page(run_app, retain="", methods="KSD", robustness="false"), GO)
    assert not failures(app)
    assert "Not measured: retain skills, near questions" in shown(app)
    assert "No control" in shown(app)


def test_work_is_shown_can_be_cancelled_and_goes_on_with_what_is_done(
    run_app: RunApp, skills: Skills, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(1)
    work_with(monkeypatch, Watched(gate))
    app = press(page(run_app, **QUICK), GO)
    gate.wait()
    app.run()
    bar = next(element.proto.text for element in app.main.get("progress"))
    assert bar.startswith("1 of 3 methods")
    assert "KSD" in judged(app)  # what is done is shown while the others are worked on
    assert "Neuron Adjust" not in judged(app)
    [job] = list_jobs(open_store(default_path()))
    app.button(key=f"page_cancel_{job.id}").click().run()
    assert ended(open_store(default_path()), job.id).state == "cancelled"
    stopped = page(run_app, **QUICK)
    assert "Only KSD of 3 methods is done" in shown(stopped)
    gate.opened.set()
    press(stopped, GO)
    last = list_jobs(open_store(default_path()))[0]
    assert ended(open_store(default_path()), last.id).state == "done"
    assert "Selective pruning" in judged(page(run_app, **QUICK))


def test_work_that_fails_says_why_and_keeps_what_is_done(
    run_app: RunApp, skills: Skills, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Watched(failing_once(1, StoreFull("No room left: free some space")))
    work_with(monkeypatch, engine)
    quick: Query = QUICK | {"methods": ["KSD", "Selective pruning"]}
    app = press(page(run_app, **quick), GO)
    [job] = list_jobs(open_store(default_path()))
    ended(open_store(default_path()), job.id)
    app.run()
    assert "**Store full**  \nNo room left: free some space" in shown(app)
    assert "KSD" in judged(app)
    app.button(key=f"page_resume_{job.id}").click().run()
    ended(open_store(default_path()), job.id)
    assert "Selective pruning" in judged(app.run())
    assert engine.asked == [0, 1, 1]


def test_what_can_be_taken_away_is_offered_and_what_cannot_is_explained(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer]
) -> None:
    app = page(run_app)
    offered = labels(app, "download_button")
    assert offered.count("Recipe (zip)") == offered.count("Python script") == 3
    assert offered.count("Edited model (zip)") == 1
    assert {"Results as JSON", "Matrix as CSV", "Forms as CSV", "Frontier as CSV", "Curve as CSV"} <= {
        *offered
    }
    assert "No edited weights: LinearGuard depends on the input" in shown(app)


def test_where_no_share_is_eligible_the_page_says_so_and_offers_nothing(
    run_app: RunApp, skills: Skills
) -> None:
    app = press(page(run_app, methods="Selective pruning", shares="100", robustness="false"), GO)
    assert not app.exception
    assert "nothing was changed. Already at 100 %: it costs two" in shown(app)
    assert "nothing was changed: nothing to export" in shown(app)
    assert "No method changes anything, so there is nothing to compare" in shown(app)
    assert "Recipe (zip)" not in labels(app, "download_button")


def test_multiple_choice_can_be_chosen_as_utility_and_other_skills_are_refused(
    run_app: RunApp, skills: Skills, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = tmp_path / "choices.csv"
    choices.write_text("\n".join(f"{n}?,a,b,c,d,A" for n in range(20)), encoding="utf-8")
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", skills | {"choices": choices})
    asked: Query = QUICK | {"methods": "Selective pruning", "retain": "two"}
    app = press(page(run_app, utility="choices", **asked), GO)
    assert not app.exception
    store = open_store(default_path())
    [run] = list_runs(store, kind="unlearn")
    assert read_unit(store, run.key, 0).payload["utility"]["mmlu"]["n"] == 20
    [link] = make_unlearn_view(run.parameters)[state.UTILITY]
    assert link == "choices"
    wrong = press(page(run_app, utility="one", **asked), GO)
    assert "one: the utility sample is multiple choice" in told(wrong)


def test_it_can_be_asked_and_a_refusal_is_said(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer], skills: Skills
) -> None:
    probe = question_of(skills).scene().forget.probe[0].prompt
    app = press(page(run_app, ask=probe, tried="KSD"), "Ask")
    assert not failures(app)
    assert "**Refused: the guard abstains.**" in shown(app)
    both = [text for text in html_of(app) if "overflow-wrap" in text]
    assert len(both) == 2
    assert both[0] != both[1]
    other = press(page(run_app, ask=" the ran <script>alert(1)</script>", tried="Selective pruning"), "Ask")
    assert "abstains" not in shown(other)
    assert not any("<script>" in text for text in html_of(other))
    empty = press(page(run_app, ask=" ", tried="KSD"), "Ask")
    assert not empty.exception


@pytest.mark.parametrize(("rivals", "said"), [(False, "false"), (True, "true"), (None, None)])
def test_a_kept_answer_without_rivals_opens_without_them(
    monkeypatch: pytest.MonkeyPatch, rivals: bool | None, said: str | None
) -> None:
    view: dict[str, object] = {}
    monkeypatch.setattr(
        "pages.record.findings.unlearn_finding.show_page_link", lambda *_, **named: view.update(named)
    )
    open_unlearning({"question": {} if rivals is None else {"rivals": rivals}}, "demo/base")
    assert view.get("rivals") == said


@pytest.mark.slow
def test_an_answer_is_kept_as_a_finding_that_is_asked_again(
    run_app: RunApp, answer: tuple[Store, UnlearningAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    press(page(run_app), "Keep")
    [finding] = list_findings(open_store(default_path()))
    assert finding.title == "Forget one in tiny-model0"
    kept = run_app("/findings", finding=finding.id)
    assert not kept.exception
    measured = [
        [row["value"] for row in method["verdict"]["rows"]] for method in answer[1].to_document()["methods"]
    ]
    assert [len(table.value) for table in kept.dataframe[:3]] == [len(values) for values in measured]
    assert all(method["verdict"]["sentence"] in shown(kept) for method in answer[1].to_document()["methods"])
    rows = kept.dataframe[3].value
    skills = [skill for method in answer[1].to_document()["methods"] for skill in method["skills"]]
    assert list(rows["skill"]) == [skill["skill"] for skill in skills]
    assert list(rows["relative drop"]) == [skill["relative_drop"] for skill in skills]
    again = press(kept, "Run again")
    assert not failures(again)
    assert "It still holds: identical." in shown(again)
    monkeypatch.setattr("workbench.findings.findings.TOLERANCE", -1.0)
    assert "It no longer holds: " in shown(press(run_app("/findings", finding=finding.id), "Run again"))
    [link] = [element for element in elements(kept, "page_link") if element.label == "Open in Unlearn"]
    query = parse_qs(link.query_string, keep_blank_values=True)
    assert "Before and after" in [
        heading.value for heading in run_app("/unlearn", **query).subheader
    ]  # the link asks the very question that is stored


def test_the_papers_box_can_be_asked_for_in_a_link(run_app: RunApp, skills: Skills) -> None:
    app = page(run_app, methods="KSD", measure="box", boxes="last", rivals="false")
    assert not app.error
    assert "Everything is filled in" in shown(app)
