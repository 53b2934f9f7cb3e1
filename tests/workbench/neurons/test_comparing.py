"""Compare a model with one that was tuned from it."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from analysis.errors import HeadlampError, RecipeError
from analysis.neurons.agreement import compare_labels
from analysis.opening.models import ModelRef
from store import Finding, Store, keep_finding, open_store
from tests.workbench.conftest import Cli
from workbench.findings.findings import rerun_finding
from workbench.models import open_model
from workbench.neurons.comparing import compare_models
from workbench.neurons.comparison_evidence import describe_comparison, keep_comparison


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


def compared(store: Store, base: Path, tuned: Path) -> Finding:
    with open_model(ModelRef(str(base)), store) as one, open_model(ModelRef(str(tuned)), store) as other:
        found = compare_models(one, other, store)
        return keep_comparison(one, other, store, found, title="Mine against theirs")


def test_a_comparison_is_decoded_again_and_the_same(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    finding = compared(store, tiny, tuned)
    assert finding.evidence["document"]["verdict"].startswith(
        "Of 48 neurons, 95.8% have the same label at up"
    )
    assert finding.evidence["document"]["verdict"].endswith("; 2 changed, most in layer 1 (2 of its 24).")
    again = rerun_finding(store, finding.id)
    assert (again.same, again.largest_difference) == (True, 0.0)
    about = {"model_name": finding.model_name, "model_fingerprint": finding.model_fingerprint}
    finding.evidence["document"]["changed"][0]["tuned"]["probability"] += 0.01
    forged = keep_finding(store, title="x", kind="comparison", evidence=finding.evidence, **about)
    assert not rerun_finding(store, forged.id).same


def test_a_tuned_model_that_changed_is_refused(tiny: Path, tuned: Path, tmp_path: Path) -> None:
    store, mine = open_store(tmp_path / "s.db"), tmp_path / "mine"
    shutil.copytree(tuned, mine)
    finding = compared(store, tiny, mine)
    shutil.rmtree(mine)
    shutil.copytree(tiny, mine)
    with pytest.raises(RecipeError, match="no longer the model that was compared"):
        rerun_finding(store, finding.id)


@pytest.mark.parametrize(
    ("sizes", "changed", "told"),
    [
        ((8, 4000), (4, 40), ("98.9%", "44 changed, most in layer 1 (40 of its 4,000)")),
        ((8, 4000), (0, 1), ("over 99.9%", "1 changed, most in layer 1 (1 of its 4,000)")),
        ((4000, 8), (4000, 7), ("under 0.1%", "4,007 changed, most in layer 0 (4,000 of its 4,000)")),
        ((24, 24), (2, 2), ("91.7%", "4 changed, in no layer more than 2")),
    ],
)
def test_the_sentence_is_true_of_layers_of_any_size(
    sizes: tuple[int, int], changed: tuple[int, int], told: tuple[str, str]
) -> None:
    layer = np.repeat([0, 1], sizes)
    base = np.zeros(len(layer), np.int64)
    tuned = np.concatenate([np.arange(n) < k for n, k in zip(sizes, changed, strict=True)]).astype(np.int64)
    found: Any = SimpleNamespace(base=base, site="up", agreement=compare_labels(layer, base, tuned))
    said = describe_comparison(cast(Any, SimpleNamespace(ref=ModelRef("theirs"))), found)
    assert said.startswith(f"Of {len(layer):,} neurons, {told[0]} have the same label at up in theirs; ")
    assert said.endswith(f"; {told[1]}.")


@pytest.mark.parametrize(
    "forged",
    [{"fingerprint": ...}, {"device": [1]}, {"dtype": {"a": 1}}, {"revision": {"a": 1}}, {"name": 3}],
)
def test_a_forged_comparison_is_refused_in_a_sentence(
    tiny: Path, tuned: Path, tmp_path: Path, forged: dict[str, Any]
) -> None:
    store = open_store(tmp_path / "s.db")
    finding = compared(store, tiny, tuned)
    other = finding.evidence["question"]["tuned"]
    other |= forged
    for name in [name for name, value in other.items() if value is ...]:
        del other[name]
    about = {"model_name": finding.model_name, "model_fingerprint": finding.model_fingerprint}
    kept = keep_finding(store, title="x", kind="comparison", evidence=finding.evidence, **about)
    with pytest.raises(HeadlampError, match="not complete enough to run again"):
        rerun_finding(store, kept.id)
