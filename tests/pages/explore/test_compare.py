"""The Compare page: two models side by side, neuron by neuron."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from streamlit.testing.v1 import AppTest

from store import default_path, list_findings, open_store
from tests.pages.reading import press, shown

RunApp = Callable[..., AppTest]


@pytest.fixture
def tuned_folder(tiny_model_folder: Path, tmp_path: Path) -> Path:
    """The tiny model, but layer 1's neuron 3 reads the other way round."""
    folder = tmp_path / "tuned"
    shutil.copytree(tiny_model_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3] *= -1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_without_a_second_model_the_page_says_what_it_does(run_app: RunApp) -> None:
    assert "tuned from the open one" in run_app("/compare").info[0].value


def test_the_one_neuron_that_changed_is_found_and_counted(run_app: RunApp, tuned_folder: Path) -> None:
    app = run_app("/compare", **{"with": str(tuned_folder)})
    assert not app.exception
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown == {"Same label": "97.9%", "Neurons": "48", "Changed": "1"}
    table = app.dataframe[0].value
    assert len(table) == 1
    assert "L1.N3" in table["neuron"][0]


def test_a_comparison_is_kept_shown_and_compared_again(run_app: RunApp, tuned_folder: Path) -> None:
    app = run_app("/compare", **{"with": str(tuned_folder)})
    next(area for area in app.text_area if area.label == "Note").input("One neuron turned round")
    press(app, "Keep")
    assert not app.exception
    [finding] = list_findings(open_store(default_path()))
    assert finding.note == "One neuron turned round"
    assert "97.9% of labels kept at up" in finding.title
    app = run_app("/findings", finding=finding.id)
    assert not app.exception
    assert "Of 48 neurons, 97.9% have the same label at up in" in shown(app).replace("\\", "")
    assert [list(table.value.columns) for table in app.dataframe[:2]] == [
        ["layer", "same label", "neurons"],
        ["neuron", "base", "p base", "tuned", "p tuned"],
    ]
    assert list(app.dataframe[1].value["neuron"]) == ["L1.N3"]
    assert "Every number is the same" in shown(press(app, "Run again"))


def test_the_site_in_the_url_is_compared(run_app: RunApp, tuned_folder: Path) -> None:
    app = run_app("/compare", **{"with": str(tuned_folder), "site": "down"})
    assert {metric.label: metric.value for metric in app.metric}["Changed"] == "0"
    assert "Every neuron has the same label" in app.info[0].value


def test_models_with_other_neurons_are_refused_saying_how(
    run_app: RunApp, tiny_model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "wider"
    shutil.copytree(tiny_model_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    weights = load_file(folder / "model.safetensors")
    kept = {name: torch.clone(t) for name, t in weights.items() if "layers.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    message = run_app("/compare", **{"with": str(folder)}).error[0].value
    assert "Not comparable" in message
    assert "layers 2 and 1" in message
