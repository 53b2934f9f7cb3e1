"""The Experts page: the planted super expert, the playground, prune and see, dense models."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from analysis.anatomy.addresses import BlockAddress
from analysis.opening.models import ModelRef
from pages.shared.links.runs import describe_stored_run
from pages.shared.resources import get_store
from store import list_runs
from tests.pages.explore.experts_made import TEXT, moe_folder  # noqa: F401 - fixtures
from tests.pages.job_rows import plant_job
from workbench.experts.profiles import find_expert_profile, keep_texts
from workbench.experts.pruning import prune_order
from workbench.models import open_model

RunApp = Callable[..., AppTest]


@pytest.fixture
def moe_app(run_app: RunApp, moe_folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunApp:
    monkeypatch.setenv("HEADLAMP_MODEL", str(moe_folder))
    return run_app


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def headings(app: AppTest) -> list[str]:
    return [heading.value for heading in app.subheader]


def test_the_planted_super_expert_is_in_the_table_with_its_weight(moe_app: RunApp) -> None:
    app = moe_app("/experts")
    assert not app.exception
    assert metrics(app)["Super"] == "1"
    assert metrics(app)["in layers"] == "L1"
    first = app.dataframe[0].value.iloc[0]
    assert (first["address"], first["verdict"], first["row"], first["column"]) == ("L1.E2", "super", 5, 3)
    assert first["super weight"] == pytest.approx(1e5)
    assert headings(app) == ["Map", "Prune and see", "Sorted maxima", "Massive activations", "Router load"]


def test_the_playground_moves_the_set_at_once_and_is_read_from_the_address(moe_app: RunApp) -> None:
    app = moe_app("/experts", rule="percentile", ratio="1.0", forming="first75")
    assert metrics(app)["Super"] == "0"
    assert metrics(app)["in layers"] == "L0, L1"
    app.selectbox(key="forming").set_value("all").run()
    app.slider(key="ratio").set_value(0.1).run()
    assert metrics(app)["Super"] == "1"
    app.selectbox(key="rule").set_value("forms").run()
    assert metrics(app)["Super"] == "1"
    assert "ratio" not in [slider.key for slider in app.slider]  # the rule goes by no size
    app.toggle(key="released").set_value(True).run()
    assert metrics(app)["in layers"] == "L0, L1"
    assert metrics(app)["Rule percentile: a above"]
    assert not app.exception
    assert {run.dtype for run in list_runs(get_store(), kind="experts")} == {"float32", "bfloat16"}


def test_pruning_shows_effects_sinks_and_both_texts(moe_app: RunApp) -> None:
    app = moe_app("/experts", draws="3")
    (button,) = [b for b in app.button if "and see" in b.label]
    assert "L1" in button.label
    (told,) = [c.value for c in app.caption if "evaluations of" in c.value]
    assert re.search(r"^\d evaluations of \d+ windows", told)
    assert "base, once for all; pruned; 3 random sets, 3 of the same layers" in told
    assert "≈" in told
    button.click().run()
    assert not app.exception
    assert not app.error
    numbers = app.dataframe[1].value
    assert list(numbers[""])[:3] == ["base", "pruned", "random 1"]
    assert len(numbers) == 2 + 3 + 3
    assert numbers["Δ NLL"][0] == 0
    shown = {"Perplexity, base", "pruned", "random, median", "random, same layers, median"}
    assert shown <= set(metrics(app))
    assert float(metrics(app)["pruned"]) == pytest.approx(numbers["perplexity"][1], rel=1e-3)
    assert any("The same text continued" in text.value for text in app.markdown)
    assert any("Random experts of the same layers" in text.value for text in app.markdown)
    assert any("share of its attention that lies on the first token" in c.value for c in app.caption)
    again = moe_app("/experts", draws="3")
    assert len(again.dataframe) == 2  # answered from the store, without a click


def test_a_cancelled_pruning_leaves_a_line_with_resume_where_it_was_asked_for(
    moe_app: RunApp, moe_folder: Path
) -> None:
    moe_app("/experts")  # profiles
    store = get_store()
    with open_model(ModelRef(str(moe_folder)), store) as loaded:
        texts = keep_texts(loaded)
        profile = find_expert_profile(loaded, store, texts.question)
        assert profile is not None
        spared = [BlockAddress(1, False, 2)]
        order = prune_order(loaded, profile, list(spared), texts, spared=spared, draws=2)
    job = plant_job(store, "cancelled", order)
    app = moe_app("/experts", draws="2")
    assert any("Cancelled at" in caption.value for caption in app.caption)
    assert app.button(key=f"page_resume_{job.id}")
    assert any(b.label.endswith("and see") for b in app.button)


def test_the_length_of_a_window_is_in_the_address_and_too_short_ones_are_refused(moe_app: RunApp) -> None:
    app = moe_app("/experts", window="32")
    assert any("windows of at most 32 tokens" in caption.value for caption in app.caption)
    (run,) = [r for r in list_runs(get_store(), kind="experts") if r.parameters["window"] == 32]
    _, page, view = describe_stored_run(run)
    assert (page, view["window"]) == ("/experts", 32)
    assert "choose 16 or more" in moe_app("/experts", window="5").error[0].value


def test_the_authors_reading_is_reopened_as_such(moe_app: RunApp) -> None:
    moe_app("/experts", released="true")
    (run,) = [r for r in list_runs(get_store(), kind="experts") if r.dtype == "bfloat16"]
    _, _, view = describe_stored_run(run)
    assert view["released"] == "true"
    assert "window" not in view


def test_experts_named_in_the_address_are_pruned_instead(moe_app: RunApp) -> None:
    app = moe_app("/experts", prune="L0.E1, L2.E3", draws="1")
    (button,) = [b for b in app.button if "and see" in b.label]
    assert "L0" in button.label
    assert "E3" in button.label
    button.click().run()
    assert app.dataframe[1].value["experts"][1] == "L0.E1, L2.E3"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("L1.E0,L1.E1,L1.E2,L1.E3", "all 4 experts of layer 1 would be pruned"),
        ("L9", "layer 9"),
        ("x", "'x' is not an expert, block or neuron address"),
    ],
)
def test_what_cannot_be_pruned_is_said_in_a_sentence(moe_app: RunApp, named: str, told: str) -> None:
    app = moe_app("/experts", prune=named)
    assert not app.exception
    assert told in app.error[0].value.replace("\\", "")


def test_another_text_is_read_and_named_by_its_digest(moe_app: RunApp) -> None:
    app = moe_app("/experts")
    app.text_area(key="_calibration_text").set_value("the cat ran and the dog ran " * 50)
    (button,) = [b for b in app.button if b.label == "Read this text"]
    button.click().run()
    assert not app.exception
    digest = app.query_params["calibration"]
    assert isinstance(digest, str)
    assert len(digest) == 64
    assert metrics(app)["Compared"].isdigit()
    back = moe_app("/experts", calibration=digest)
    assert not back.error
    missing = moe_app("/experts", calibration="0" * 64)
    assert "repeat the request with the text itself" in missing.error[0].value


def test_a_dense_model_gets_its_blocks_and_a_sentence(run_app: RunApp) -> None:
    app = run_app("/experts")
    assert not app.exception
    assert any("This model has no experts" in info.value.replace("\\", "") for info in app.info)
    assert "Router load" not in headings(app)
    assert app.text_input(key="prune").placeholder == "L2, L2.N47"
    assert any(
        "Nothing is super under the rule forms" in value and "Click blocks on the map" in value
        for value in (info.value.replace("\\", "") for info in app.info)
    )


def test_a_click_on_the_map_adds_an_expert_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.explore.experts import controls as expert_controls

    kept: dict[str, str] = {}
    monkeypatch.setattr(expert_controls.st, "session_state", kept)
    expert_controls.toggle_expert("L0.E1", ["L1.E2"])
    assert kept["prune"] == "L1.E2, L0.E1"
    expert_controls.toggle_expert("L1.E2", ["L1.E2", "L0.E1"])
    assert kept["prune"] == "L0.E1"
