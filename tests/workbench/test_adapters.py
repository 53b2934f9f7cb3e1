"""Models with a LoRA adapter in use: commands, run keys, findings, scripts, saved and listed models."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from analysis.errors import NotFetched
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef, load_model
from analysis.running.generation import Sampling
from pages.shared.layout import shorten_model
from store import list_runs, open_store
from tests.analysis.checkpoints.adapters.adapters_made import made_adapter, made_base
from tests.analysis.checkpoints.gguf.gguf_made import write_gguf
from tests.standin_hub import StandinHub
from tests.workbench.conftest import Cli
from tests.workbench.refusals import refused
from workbench.findings.findings import get_finding, keep_generation, rerun_finding
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import write_snippet
from workbench.models import list_model_choices


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama."""
    return made_base(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter for it."""
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    return made_adapter(base, folder, target_modules=["q_proj", "down_proj"])


@pytest.mark.parametrize(
    "words",
    [
        ("find", "dog"),
        ("generate", "--prompt", " the dog", "--max-new-tokens", "3"),
        ("decode",),
        ("decode", "--from-disk"),
    ],
)
def test_a_command_answers_of_the_merged_model_and_never_of_its_base(
    words: tuple[str, ...], base: Path, adapter: Path, cli: Cli, tmp_path: Path
) -> None:
    command, *rest = words
    answers = [
        json.loads(cli(command, name, *rest, "--json").out) for name in (base, f"{base}+{adapter}", base)
    ]
    for answer in answers:
        for passing in ("seconds", "cached"):
            answer.pop(passing, None)
    assert answers[0] == answers[2] != answers[1]
    store = open_store(tmp_path / "headlamp.db")
    if command == "decode":
        merged = load_model(ModelRef(f"{base}+{adapter}")).fingerprint
        plain = load_model(ModelRef(str(base))).fingerprint
        runs = {run.model_fingerprint: run.model_name for run in list_runs(store)}
        assert runs == {plain: str(base), merged: f"{base}+{adapter}"}


def test_inspect_and_the_list_of_models_name_the_adapter(
    base: Path, adapter: Path, cli: Cli, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    made_adapter(base, gone, target_modules=["k_proj"])
    for one in (adapter, gone):
        said = cli("inspect", f"{base}+{one}").out
        assert f"LoRA adapter {one} merged into its weights (made for {base})" in said
    store = open_store(tmp_path / "headlamp.db")
    shutil.rmtree(gone)
    names = [choice.name for choice in list_model_choices(store)]
    assert f"{base}+{adapter}" in names
    assert f"{base}+{gone}" not in names
    assert shorten_model(f"{base}+{adapter}") == "tiny+mine"
    assert shorten_model("demo/base+org/mine") == "demo/base+org/mine"


def test_a_missing_adapter_is_one_message(base: Path, cli: Cli) -> None:
    refused(cli, "inspect", f"{base}+/nowhere", says="/nowhere: there is no adapter of this name")


def test_a_finding_of_a_merged_model_runs_again(base: Path, adapter: Path, tmp_path: Path) -> None:
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    store = open_store(tmp_path / "headlamp.db")
    request = GenerationRequest(" the dog", (parse_clamp("L1.N3:key:set:40"),), sampling=Sampling(6))
    result = generate_pair(loaded, store, request)
    kept = get_finding(store, keep_generation(loaded, store, result, title="t").id)
    assert kept.model_name == f"{base}+{adapter}"
    assert rerun_finding(store, kept.id).same


@pytest.mark.parametrize("gguf", [False, True])
def test_the_script_merges_the_same_adapter(gguf: bool, base: Path, adapter: Path, tmp_path: Path) -> None:
    if gguf:
        base = write_gguf(tmp_path / "a.gguf", "llama", "Q4_1")
        load_model(ModelRef(str(base))).model.save_pretrained(tmp_path / "same")
        adapter = made_adapter(tmp_path / "same", tmp_path / "adapter", target_modules=["down_proj"])
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    request = GenerationRequest(" the", (parse_clamp("L1.N3:key:set:400"),), sampling=Sampling(6))
    result = generate_pair(loaded, open_store(tmp_path / "headlamp.db"), request)
    script = tmp_path / "script.py"
    script.write_text(write_snippet(loaded, result), encoding="utf-8")
    assert runpy.run_path(str(script))["texts"] == (list(result.base_ids), list(result.changed_ids))


def test_a_saved_model_has_the_adapter_in_its_weights(
    base: Path, adapter: Path, cli: Cli, tmp_path: Path
) -> None:
    recipe, folder = tmp_path / "recipe.json", tmp_path / "saved"
    name = f"{base}+{adapter}"
    told = ("generate", name, "--prompt", " the", "--clamp", "L1.N3:key:ablate", "--max-new-tokens", "1")
    assert cli(*told, "--recipe-out", recipe).code == 0
    assert cli("save", name, "--recipe", recipe, "--out", folder).code == 0
    saved, merged = load_model(ModelRef(str(folder))), load_model(ModelRef(name))
    changed = [n for n, v in saved.parameters.items() if not torch.equal(v, merged.parameters[n])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    assert "An edited copy of `tiny+mine`" in (folder / "README.md").read_text()


def test_an_adapter_at_the_hub_is_fetched_and_its_pickles_are_not(
    hub: StandinHub, base: Path, adapter: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copytree(adapter, tmp_path / "at-hub")
    (tmp_path / "at-hub" / "training_args.bin").write_bytes(b"pickle")
    hub.models["some/adapter"] = tmp_path / "at-hub"
    with pytest.raises(NotFetched, match="some/adapter is no folder, and not among the adapters"):
        load_model(ModelRef(f"{base}+some/adapter"))
    words = ("generate", "--prompt", " the dog", "--max-new-tokens", "3", "--json")
    found, here = (cli(words[0], f"{base}+{one}", *words[1:]).document for one in ("some/adapter", adapter))
    assert found["base"] == here["base"]
    assert not any("training_args" in what for _, what in hub.log)
    loaded = load_model(ModelRef(f"{base}+some/adapter"))
    assert loaded.fingerprint == load_model(ModelRef(f"{base}+{adapter}")).fingerprint
