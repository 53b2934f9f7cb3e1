"""Make it say a word, and a neuron's dose curve: nothing yet, working, done, failed; kept; on to Clamp."""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef
from pages.shared.word_effects import make_clamp_view
from store import default_path, list_findings, list_jobs, open_store
from store.word_evidence import read_word_evidence
from tests.pages.job_rows import ended, plant_job, work_with
from tests.pages.reading import elements, labels, press, shown
from tests.workbench.jobs.job_engines import Watched
from workbench.kinds import make_order
from workbench.levers.asking import (
    ask_neuron_sweep,
    find_best_value,
    propose_lever_title,
    propose_sweep_title,
)
from workbench.levers.levers import LEVERS, answer_levers, find_levers
from workbench.levers.questions import ask_levers
from workbench.levers.sweeps import answer_sweep, find_sweep
from workbench.models import open_model

RunApp = Callable[..., AppTest]
OPEN = {"word": "dog", "levers": "true"}


def wait_for(gate: threading.Event) -> None:
    """Hold a job until the gate opens."""
    gate.wait(60)


def query_of(app: AppTest, label: str) -> dict[str, list[str]]:
    """The query of the first page link whose label begins so."""
    found = [one for one in elements(app, "page_link") if one.label.startswith(label)]
    return parse_qs(found[0].proto.query_string)


def verdict_of(app: AppTest) -> str:
    """The first box on the page, without escapes."""
    return str((app.success or app.warning or app.info)[0].value).replace("\\", "").replace("\u2060", "")


def test_the_panel_is_closed_at_first_and_measures_nothing(run_app: RunApp) -> None:
    app = run_app("/neurons", word="dog")
    assert not app.exception
    assert "Best levers" not in [button.label for button in app.button]
    assert any(panel.label.startswith("**Make it say “dog”**") for panel in app.expander)
    assert not list_jobs(open_store(default_path()))


def test_before_it_is_asked_it_says_how_long_it_may_take(
    run_app: RunApp,
) -> None:
    app = run_app("/neurons", **OPEN)
    assert re.search(r"≈ \d+ s on this machine, by a short measurement", verdict_of(app))
    assert "Neurons of “dog”" in [heading.value for heading in app.subheader]


def test_the_levers_of_a_word_are_measured_and_shown_verdict_first(
    run_app: RunApp, tiny_model_folder: Path
) -> None:
    app = press(run_app("/neurons", **OPEN), "Best levers")
    assert not app.exception
    assert not app.error
    store = open_store(default_path())
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        stored = find_levers(loaded, store, ask_levers(loaded, "dog"))
    assert stored is not None
    assert verdict_of(app) == stored.answer.verdict
    levers = stored.answer.found.levers
    table = app.dataframe[0].value
    assert table["held-out P"].tolist() == [lever.held_out for lever in levers]
    assert table["best random"].tolist()[0] == pytest.approx(levers[0].largest_control, nan_ok=True)
    bars = json.loads(app.get("plotly_chart")[0].proto.spec)["data"][0]["x"]
    assert bars == [lever.held_out for lever in levers[:10]]
    again = run_app("/neurons", word="cat", levers="true")
    assert "as it took here before" in verdict_of(again)


def test_every_lever_leads_to_clamp_with_prompt_word_and_clamps(
    run_app: RunApp, tiny_model_folder: Path
) -> None:
    app = press(run_app("/neurons", **OPEN), "Best levers")
    with open_model(ModelRef(str(tiny_model_folder)), open_store(default_path())) as loaded:
        asked = ask_levers(loaded, "dog")
        stored = find_levers(loaded, open_store(default_path()), asked)
    assert stored is not None
    said = read_word_evidence({"document": stored.answer.to_document(), "question": asked.document()})
    held_out = [one.prompt for one in asked.held_out]
    (query,) = [query_of(app, "Clamp it")]
    assert query["say"] == ["dog"]
    assert query["prompt"][0] in held_out
    assert query["clamps"][0].split(";") == list(said.levers[0].clamps)
    for lever in said.levers:
        view = make_clamp_view(said, lever.clamps, lever)
        assert view["clamps"].split(";") == list(lever.clamps)
        assert view["prompt"] in held_out
        assert all(parse_clamp(text).unit == "residual" for text in lever.clamps)
    clamp = run_app("/clamp", **{name: query[name][0] for name in ("clamps", "say", "prompt")})
    assert not clamp.exception
    assert not clamp.error
    assert "Everything is filled in" in shown(clamp)
    several = next(lever.clamps for lever in said.levers if len(lever.clamps) > 1)
    clamp = run_app("/clamp", clamps=";".join(reversed(several)), say="dog")
    assert shown(clamp).count(f"as a set of {len(several)}") == len(several)
    other = run_app("/clamp", clamps=";".join((several[0], "L0.N0:key:set:1r@last")), say="dog")
    assert "as a set of" not in shown(other)


def test_levers_are_kept_under_a_title_that_says_what_they_do(run_app: RunApp) -> None:
    app = press(press(run_app("/neurons", **OPEN), "Best levers"), "Keep")
    assert not app.error
    (finding,) = list_findings(open_store(default_path()))
    assert finding.kind == "levers"
    assert finding.title.startswith(("Holding L", "No lever"))
    assert "dog" in finding.title
    assert query_of(app, "Open the finding")["finding"] == [finding.id]
    assert {"Levers as CSV"} <= set(labels(app, "download_button"))


def test_while_it_is_measured_the_page_shows_the_job_with_cancel_and_the_neurons(
    run_app: RunApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    work_with(monkeypatch, Watched(lambda index, pulse: wait_for(gate)))
    app = press(run_app("/neurons", **OPEN), "Best levers")
    try:
        assert not app.exception
        assert "The page continues automatically" in shown(app)
        assert "Cancel" in [button.label for button in app.button]
        assert "Neurons of “dog”" in [heading.value for heading in app.subheader]
    finally:
        gate.set()
        store = open_store(default_path())
        for job in list_jobs(store):
            ended(store, job.id)


def test_a_failed_search_says_why_and_resumes(run_app: RunApp, tiny_model_folder: Path) -> None:
    store = open_store(default_path())
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        order = make_order(LEVERS, loaded.ref, **ask_levers(loaded, "dog").document())
    plant_job(store, "failed", order)
    app = run_app("/neurons", **OPEN)
    assert shown(app).count("No room left") == 2, "in the sidebar and in the panel"
    assert "Neurons of “dog”" in [heading.value for heading in app.subheader]
    press(app, "Resume")
    assert len(app.dataframe) == 2


def test_a_cancelled_search_is_offered_again(run_app: RunApp, tiny_model_folder: Path) -> None:
    store = open_store(default_path())
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        order = make_order(LEVERS, loaded.ref, **ask_levers(loaded, "dog").document())
    plant_job(store, "cancelled", order)
    assert "Best levers" in [button.label for button in run_app("/neurons", **OPEN).button]


def test_a_word_that_is_no_text_of_the_model_is_refused_before_there_is_a_button(run_app: RunApp) -> None:
    app = run_app("/neurons", word="zebra", levers="true")
    assert not app.exception
    assert [error.value.partition("**  ")[0] for error in app.error] == ["**Unknown word"] * 2
    assert "Best levers" not in [button.label for button in app.button]


def test_a_hostile_word_is_shown_as_text(run_app: RunApp) -> None:
    app = run_app("/neurons", word="![a](http://x)", levers="true")
    assert not app.exception
    assert not any("![a](" in panel.label for panel in app.expander)
    assert not any("![a](" in text.value for text in (*app.markdown, *app.caption, *app.info))


def test_the_dose_curve_of_a_neuron_is_measured_for_the_word(
    run_app: RunApp, tiny_model_folder: Path
) -> None:
    app = run_app("/neurons", neuron="L1.N5", word="dog")
    assert "How likely is dog" in shown(app)
    press(app, "Measure the curve")
    assert not app.exception
    assert not app.error
    store = open_store(default_path())
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        asked = ask_neuron_sweep(loaded, parse_address("L1.N5"), "dog")
        stored = find_sweep(loaded, store, asked)
        best = find_best_value(loaded, store, parse_address("L1.N5"), "dog")
    assert stored is not None
    assert stored[1].verdict in shown(app)
    (doses,) = [table.value for table in app.dataframe if "random from" in table.value]
    assert doses["P"].tolist() == [point.mean for point in stored[1].curves[0].points]
    assert doses["neutral KL"].notna().all()
    assert "Curve as CSV" in labels(app, "download_button")
    assert best is not None
    for label in ("Clamp it", "Clamp it at the best value"):
        query = query_of(app, label)
        assert query["clamps"] == [str(best)]
        assert query["say"] == ["dog"]
        assert query["prompt"] == [asked.prompts[0].prompt]
    [button for button in app.button if button.label == "Keep"][-1].click().run()
    (finding,) = list_findings(open_store(default_path()))
    assert (finding.kind, finding.title) == ("sweep", propose_sweep_title(stored[1]))


def test_without_a_searched_word_the_curve_is_for_what_is_typed(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N5")
    app.text_input(key="_dose_word_L1.N5").set_value("").run()
    assert "Type a word" in shown(app)
    app.text_input(key="_dose_word_L1.N5").set_value("cat").run()
    assert "How likely is cat" in shown(app)


def test_a_word_that_cannot_be_swept_leaves_the_rest_of_the_neuron(run_app: RunApp) -> None:
    app = run_app("/neurons", neuron="L1.N5", word="zebra")
    assert "Unknown word" in shown(app)
    assert "Measure the curve" not in [button.label for button in app.button]
    assert "Nearest neurons" in [heading.value for heading in app.subheader]


@pytest.mark.parametrize(("end", "sign"), [("top", 1.0), ("bottom", -1.0)])
def test_before_anything_is_measured_clamp_opens_at_the_sign_that_the_tokens_have(
    run_app: RunApp, end: str, sign: float
) -> None:
    tables = [table.value for table in run_app("/neurons", neuron="L1.N5").dataframe]
    token = tables[2 if end == "top" else 5]["token"][0]
    others = tables[5 if end == "top" else 2]["token"].tolist()
    word = token.lstrip("␣")
    if any(other.lstrip("␣").casefold() == word.casefold() for other in others):
        pytest.skip(f"{word} is at both ends")
    (clamp,) = query_of(run_app("/neurons", neuron="L1.N5", word=word), "Clamp it")["clamps"]
    assert clamp == f"L1.N5:key:set:{sign:g}r@last"


def test_titles_say_clamps_and_numbers(tiny_model_folder: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "titles.db")
    with open_model(ModelRef(str(tiny_model_folder)), store) as loaded:
        levers = answer_levers(loaded, ask_levers(loaded, "dog", top=4, set_size=1, controls=2))
        best: Any = levers.found.best
        address = best.clamps[0].address
        swept = answer_sweep(loaded, ask_neuron_sweep(loaded, address, "dog"))
    assert propose_lever_title(levers).startswith(f"Holding {address} at ")
    assert " random " in propose_lever_title(levers)
    assert propose_sweep_title(swept).startswith(f"Holding {address} at ")
    assert "best of 20 random" in propose_sweep_title(swept)
