"""`save`: what it prints and writes, and what it refuses, leaving nothing behind."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from analysis.errors import HeadlampError
from analysis.opening.models import load_model
from store import open_store
from tests.workbench.conftest import Cli
from workbench.saving.saving import find_saving_folder, propose_name

Recipe = Callable[..., Path]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Writes a recipe of these interventions."""

    def write(*interventions: dict[str, Any]) -> Path:
        path = tmp_path / "r.json"
        path.write_text(json.dumps({"headlamp_recipe": 1, "interventions": interventions}))
        return path

    return write


ABLATED = {"kind": "clamp", "layer": 1, "neuron": 3, "site": "key", "mode": "ablate", "scope": "all"}
HELD = ABLATED | {"layer": 0, "expert": 1, "mode": "set", "value": 8.0, "unit": "max"}
PRUNED = {"kind": "prune_expert", "layer": 0, "expert": 1, "shared": False}


def test_a_saved_model_answers_as_the_recipe_does(
    cli: Cli, tiny: Path, recipe: Recipe, tmp_path: Path
) -> None:
    folder, given = tmp_path / "new" / "saved", recipe(ABLATED)
    found = cli("save", tiny, "--recipe", given, "--out", folder, "--json").document
    assert set(found) == {
        *("folder", "changed", "logits_error", "effect", "positions", "untied", "card"),
    }
    [changed] = found["changed"]
    assert changed["tensor"] == "model.layers.1.mlp.down_proj.weight"
    assert changed["rows"] == 16
    assert 0.5 < changed["cosine"] < 1
    assert found["logits_error"] < 1e-5 < found["effect"]
    asked = ("--prompt", "the dog", "--max-new-tokens", "8", "--json")
    wanted = cli("generate", tiny, *asked, "--recipe", given).document["changed"]["token_ids"]
    assert cli("generate", folder, *asked).document["base"]["token_ids"] == wanted
    model, original = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, tiny))
    different = [
        name
        for (name, new), old in zip(model.named_parameters(), original.parameters(), strict=True)
        if not torch.equal(new, old)
    ]
    assert different == ["model.layers.1.mlp.down_proj.weight"]
    card = Path(found["card"]).read_text(encoding="utf-8")
    assert "`L1.N3:key:ablate@all`" in card
    assert "model.layers.1.mlp.down_proj.weight" in card
    assert json.loads((folder / "headlamp_recipe.json").read_text())["interventions"] == [ABLATED]
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_pruned_experts_are_saved(cli: Cli, experts: Path, recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    told = cli("save", experts, "--recipe", recipe(PRUNED), "--out", folder).out
    assert "and opened again" in told
    assert "mlp.experts.down_proj" in told
    assert load_model_of(folder).parameters["model.layers.0.mlp.experts.down_proj"][1].abs().max() == 0


def test_pruned_experts_are_taken_out_where_that_is_asked(
    cli: Cli, experts: Path, recipe: Recipe, tmp_path: Path
) -> None:
    folder = tmp_path / "saved"
    ask = ("save", experts, "--recipe", recipe(PRUNED), "--out", folder, "--drop-experts", "--json")
    assert cli(*ask).document["logits_error"] < 1e-5
    assert json.loads((folder / "config.json").read_text())["num_local_experts"] == 3
    assert load_model_of(folder).anatomy.experts == 3


def test_without_a_pruned_expert_none_is_taken_out(
    cli: Cli, experts: Path, recipe: Recipe, tmp_path: Path
) -> None:
    ablated = ABLATED | {"layer": 0, "expert": 1}
    found = cli("save", experts, "--recipe", recipe(ablated), "--out", tmp_path / "saved", "--drop-experts")
    assert found.code == 2
    assert "prunes no expert" in found.err


def load_model_of(folder: Path) -> Any:
    from analysis.opening.models import ModelRef

    return load_model(ModelRef(str(folder)))


REFUSED = {
    "a change that depends on what it reads": ((HELD,), "no weight equals it"),
    "an expert that is not there": ((PRUNED | {"layer": 7},), "layer 7"),
    "all experts of a layer": (
        tuple(PRUNED | {"expert": n} for n in range(4)),
        "leaving none for its tokens",
    ),
    "nothing": ((), "changes nothing"),
    "a change that is none": (
        (ABLATED | {"layer": 0, "expert": 1, "mode": "scale", "value": 1.0},),
        "leave every weight unchanged",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_saved_is_refused_and_leaves_nothing(
    cli: Cli, experts: Path, recipe: Recipe, tmp_path: Path, name: str
) -> None:
    changes, told = REFUSED[name]
    found = cli("save", experts, "--recipe", recipe(*changes), "--out", tmp_path / "saved")
    assert (found.code, found.out) == (2, "")
    assert told in found.err
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_folder_that_is_taken_is_refused(cli: Cli, tiny: Path, recipe: Recipe, tmp_path: Path) -> None:
    mine = tmp_path / "model"
    shutil.copytree(tiny, mine)
    for folder in (mine, mine / ".." / "model"):
        found = cli("save", mine, "--recipe", recipe(ABLATED), "--out", folder)
        assert found.code == 2
        assert "is not empty; name a new folder" in found.err
    assert {path.name for path in mine.iterdir()} == {path.name for path in tiny.iterdir()}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_disk_that_fills_leaves_nothing(
    cli: Cli,
    tiny: Path,
    recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    from workbench.saving import saving

    def fill(loaded: Any, changed: Any, folder: Path) -> bool:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setattr(saving, "save_folder", fill)
    found = cli("save", tiny, "--recipe", recipe(ABLATED), "--out", tmp_path / "saved")
    assert found.code == 2
    assert "could not be written whole" in found.err
    assert "free some space" in found.err
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_disk_with_too_little_room_is_known_before(
    cli: Cli, tiny: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.saving import saving

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    monkeypatch.setattr(saving, "bake_weights", None)
    found = cli("save", tiny, "--recipe", recipe(ABLATED), "--out", tmp_path / "saved")
    assert found.code == 2
    assert "needs 0.05 GB" in found.err


def test_a_folder_that_another_save_wrote_in_the_meantime_stays(
    cli: Cli, tiny: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.saving import reopening
    from workbench.saving import saving

    compare, folder = reopening.compare_reopened, tmp_path / "saved"

    def save_another(*given: Any) -> Any:
        folder.mkdir()
        (folder / "config.json").write_text("theirs")
        return compare(*given)

    monkeypatch.setattr(saving, "compare_reopened", save_another)
    found = cli("save", tiny, "--recipe", recipe(ABLATED), "--out", folder)
    assert found.code == 2
    assert "was written by another save in the meantime" in found.err
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["saved"]


@pytest.mark.parametrize(
    "model", ["demo/base", "ORG/NAME:FILE.gguf", "my model (1)", "<script>", "..", "-", "ä" * 300, "a\nb"]
)
def test_the_name_proposed_for_a_model_is_taken(tmp_path: Path, model: str) -> None:
    store = open_store(tmp_path / "s.db")
    name = propose_name(model)
    assert find_saving_folder(store, name) == tmp_path / "models" / name
    assert name.endswith("-edited")


def test_a_name_too_long_for_a_folder_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    with pytest.raises(HeadlampError, match="a name of 202 bytes is too long"):
        find_saving_folder(store, "ä" * 101)
