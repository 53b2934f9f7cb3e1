"""Findings of a word's levers and of a sweep: shown, exported, run again; whatever they hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from analysis.opening.models import ModelRef
from store import Finding, Store, default_path, keep_finding, open_store
from tests.pages.reading import elements, press, shown
from tests.pages.words_made import measure_word
from workbench.findings.findings import export_findings, keep_effect
from workbench.models import open_model

RunApp = Callable[..., AppTest]
HOSTILE = "<script>alert(1)</script> [x](javascript:1) $x$ | `"


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the page will open."""
    return open_store(default_path())


@pytest.fixture
def kept(database: Store, tiny_model_folder: Path) -> dict[str, Finding]:
    """Levers and a sweep of the tiny model, kept; by kind."""
    with open_model(ModelRef(str(tiny_model_folder)), database) as loaded:
        made = measure_word(loaded)
        levers = keep_effect(loaded, database, made.lever_question, made.levers, "r" * 32, title="Its levers")
        sweep = keep_effect(loaded, database, made.sweep_question, made.sweep, "s" * 32, title="Its doses")
    return {"levers": levers, "sweep": sweep}


def plant(database: Store, kind: str, evidence: Any) -> Finding:
    """A finding of a kind whose evidence may be anything."""
    return keep_finding(
        database, title="t", kind=kind, model_name="m", model_fingerprint="f", evidence=evidence
    )


def link(app: AppTest, label: str) -> dict[str, list[str]]:
    """The query of a page link."""
    (found,) = [one for one in elements(app, "page_link") if one.label == label]
    return parse_qs(found.proto.query_string)


def test_levers_show_their_verdict_first_then_table_chart_prompts_and_clamps(
    run_app: RunApp, kept: dict[str, Finding]
) -> None:
    finding = kept["levers"]
    document = finding.evidence["document"]
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    assert not app.error
    assert (app.success or app.warning or app.info)[0].value.replace("\\", "").replace(
        "\u2060", ""
    ) == document["verdict"]
    table = app.dataframe[0].value
    assert table["held-out P"].tolist() == [lever["held_out"] for lever in document["levers"]]
    (chart,) = app.get("plotly_chart")
    bars = json.loads(chart.proto.spec)["data"][0]
    assert len(bars["customdata"]) == min(10, len(document["levers"]))
    prompts = app.dataframe[1].value
    assert set(prompts["used"]) == {"chosen on", "held out", "other kind due"}
    assert app.code[0].value.splitlines() == finding.evidence["clamps"]


def test_a_sweep_shows_its_dose_curve_and_every_value(run_app: RunApp, kept: dict[str, Finding]) -> None:
    app = run_app("/findings", finding=kept["sweep"].id)
    assert not app.exception
    assert not app.error
    points = kept["sweep"].evidence["document"]["neurons"][0]["points"]
    assert app.dataframe[0].value["value"].tolist() == [-4.0, -1.0, 0.0, 1.0, 4.0]
    assert app.dataframe[0].value["P"].tolist() == [point["mean"] for point in points]
    (chart,) = app.get("plotly_chart")
    names = [trace.get("name") for trace in json.loads(chart.proto.spec)["data"]]
    assert {"mean over prompts", "without clamps", "random neurons"} <= set(names)


@pytest.mark.parametrize("kind", ["levers", "sweep"])
def test_it_leads_to_clamp_with_its_clamps_word_and_prompt(
    run_app: RunApp, kept: dict[str, Finding], kind: str
) -> None:
    finding = kept[kind]
    assert finding.evidence["clamps"]
    query = link(run_app("/findings", finding=finding.id), "Clamp it")
    assert query["clamps"] == [";".join(finding.evidence["clamps"])]
    assert query["say"] == ["dog"]
    name = "held_out" if kind == "levers" else "prompts"
    assert query["prompt"][0] in [one["prompt"] for one in finding.evidence["question"][name]]


def test_it_leads_back_to_the_word_and_the_neuron(run_app: RunApp, kept: dict[str, Finding]) -> None:
    assert link(run_app("/findings", finding=kept["levers"].id), "Open in Neurons")["levers"] == ["true"]
    query = link(run_app("/findings", finding=kept["sweep"].id), "Open in Neurons")
    assert query["neuron"] == kept["sweep"].evidence["question"]["neurons"]


@pytest.mark.parametrize("kind", ["levers", "sweep"])
def test_it_is_run_again(run_app: RunApp, kept: dict[str, Finding], kind: str) -> None:
    app = press(run_app("/findings", finding=kept[kind].id), "Run again")
    assert not app.exception
    assert "It still holds" in shown(app)
    assert "It still holds: identical." in shown(app)


@pytest.mark.parametrize("kind", ["levers", "sweep"])
@pytest.mark.parametrize(
    "evidence",
    [
        {},
        {"document": [], "question": 3, "clamps": None},
        {"document": {"levers": [3, {"clamps": "x"}], "neurons": [{"points": [7, {"value": "a"}]}]}},
        {"document": {"word": HOSTILE, "verdict": HOSTILE, "base": {"mean": "x"}, "controls": {"band": [1]}}},
        {
            "document": {
                "word": HOSTILE,
                "levers": [{"clamps": [HOSTILE], "held_out": 2, "per_prompt": [None]}],
                "neurons": [
                    {"address": HOSTILE, "points": [{"value": 1, "probability": [1, 2]}, {"value": -1}]}
                ],
            },
            "question": {"held_out": [HOSTILE, {"prompt": HOSTILE, "turns": [[1]]}]},
            "clamps": [HOSTILE],
        },
    ],
)
def test_whatever_the_evidence_holds_it_is_shown_and_exported(
    run_app: RunApp, database: Store, kind: str, evidence: dict[str, Any]
) -> None:
    finding = plant(database, kind, evidence)
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    assert not any("<script>" in text.value for text in (*app.markdown, *app.caption, *app.info))
    assert f"{HOSTILE[:16]}" not in export_findings([finding], "html")
    assert export_findings([finding], "md")


@pytest.mark.parametrize("kind", ["levers", "sweep"])
def test_exports_hold_the_verdict_the_table_and_the_prompts(kept: dict[str, Finding], kind: str) -> None:
    finding = kept[kind]
    html, markdown = (export_findings([finding], form) for form in ("html", "md"))
    verdict = finding.evidence["document"]["verdict"].split("“")[0]
    assert verdict in html.partition("<table>")[0]
    assert verdict in markdown.partition("| Model")[0]
    header = "<th>held-out P</th>" if kind == "levers" else "<th>random from</th>"
    assert header in html
    assert html.count('class="bar changed"') > 1
    assert ("| held-out P |" if kind == "levers" else "| neuron | value |") in markdown
    prompt = finding.evidence["question"]["held_out" if kind == "levers" else "prompts"][0]["prompt"]
    assert prompt in markdown
    assert "**Evidence**" not in markdown
    assert "**Recipe**" in markdown


@pytest.mark.parametrize(
    ("steerable", "anywhere", "colour"),
    [(True, False, "success"), (True, True, "warning"), (False, True, "info")],
)
def test_only_what_is_steerable_and_not_forced_is_green(
    run_app: RunApp, database: Store, steerable: bool, anywhere: bool, colour: str
) -> None:
    lever = {"clamps": ["L1.N1:key:set:1r@last"], "anywhere": anywhere}
    document = {"word": "dog", "verdict": "Holding it", "steerable": steerable, "best": lever["clamps"]}
    planted = plant(database, "levers", {"document": document | {"levers": [lever]}})
    app = run_app("/findings", finding=planted.id)
    said = {name: [one.value for one in getattr(app, name)] for name in ("success", "warning", "info")}
    assert said[colour] == ["Holding it"]
    assert sum(map(len, said.values())) == 1
