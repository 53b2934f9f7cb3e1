"""The Experts page: the planted super expert, the playground, prune and see, dense models."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.explore.experts_made import TEXT, moe_folder  # noqa: F401 - fixtures

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
    assert headings(app) == ["Map", "Sorted maxima", "Massive activations", "Router load", "Prune and see"]


def test_the_playground_moves_the_set_at_once_and_is_read_from_the_address(moe_app: RunApp) -> None:
    app = moe_app("/experts", ratio="1.0", forming="first75")
    assert metrics(app)["Super"] == "0"
    assert metrics(app)["in layers"] == "L0, L1"
    app.selectbox(key="forming").set_value("all").run()
    app.slider(key="ratio").set_value(0.1).run()
    assert metrics(app)["Super"] == "1"
    app.toggle(key="released").set_value(True).run()
    assert metrics(app)["in layers"] == "L0, L1"
    assert not app.exception


def test_pruning_shows_effects_sinks_and_both_texts(moe_app: RunApp) -> None:
    app = moe_app("/experts", draws="3")
    (button,) = [b for b in app.button if "and see" in b.label]
    assert "L1" in button.label
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
    assert any("Click cells of the map" in info.value for info in app.info)


def test_a_click_on_the_map_adds_an_expert_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages.explore.experts import controls as expert_controls

    kept: dict[str, str] = {}
    monkeypatch.setattr(expert_controls.st, "session_state", kept)
    expert_controls.toggle_expert("L0.E1", ["L1.E2"])
    assert kept["prune"] == "L1.E2, L0.E1"
    expert_controls.toggle_expert("L1.E2", ["L1.E2", "L0.E1"])
    assert kept["prune"] == "L0.E1"
