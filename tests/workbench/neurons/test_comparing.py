"""Compare a model with one that was tuned from it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from analysis.neurons.agreement import compare_labels
from tests.workbench.conftest import Cli


@pytest.fixture
def tuned(tiny: Path, tmp_path: Path) -> Path:
    """The tiny model, but two neurons of layer 1 read the other way round."""
    folder = Path(shutil.copytree(tiny, tmp_path / "tuned"))
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][[3, 9]] *= -1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_agreement_counts_equal_labels_whole_and_by_layer() -> None:
    found = compare_labels(np.array([0, 0, 1, 1, 1]), np.array([1, 2, 3, 4, 5]), np.array([1, 9, 3, 4, 8]))
    assert found.share == 3 / 5
    assert [(row.layer, row.share) for row in found.layers] == [(0, 1 / 2), (1, 2 / 3)]
    assert found.changed.tolist() == [1, 4]


def test_the_neurons_that_changed_are_found(cli: Cli, tiny: Path, tuned: Path) -> None:
    found = cli("compare", tiny, tuned, "--json").document
    assert found["agreement"] == 46 / 48
    assert [row["agreement"] for row in found["by_layer"]] == [1.0, 22 / 24]
    assert {row["address"] for row in found["changed"]} == {"L1.N3", "L1.N9"}
    assert found["changed_count"] == 2
    assert all(row["base"]["token_id"] != row["tuned"]["token_id"] for row in found["changed"])


def test_a_model_agrees_with_itself(cli: Cli, tiny: Path) -> None:
    found = cli("compare", tiny, tiny, "--site", "down", "--json").document
    assert (found["agreement"], found["changed"]) == (1.0, [])


def test_the_limit_shortens_the_list_and_not_the_count(cli: Cli, tiny: Path, tuned: Path) -> None:
    found = cli("compare", tiny, tuned, "--limit", "1", "--json").document
    assert (len(found["changed"]), found["changed_count"]) == (1, 2)


def test_models_with_other_neurons_are_refused_saying_how(cli: Cli, tiny: Path, plain: Path) -> None:
    answer = cli("compare", tiny, plain)
    assert answer.code == 2
    assert "layers 2 and 1" in answer.err
