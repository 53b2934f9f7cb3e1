"""GGUF models in use: commands, run keys, findings, scripts, baked models, and the list of models."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef, load_model
from analysis.running.generation import Sampling
from analysis.saving.baking import bake_weights
from analysis.saving.folders import save_folder
from store import open_store, write_findings_markdown
from store.evidence import list_facts, read_evidence
from tests.analysis.checkpoints.gguf.gguf_made import write_gguf
from tests.standin_hub import StandinHub
from tests.workbench.conftest import Cli
from tests.workbench.refusals import refused
from workbench.findings.findings import get_finding, keep_generation, rerun_finding
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import write_snippet
from workbench.inspecting import inspect_model
from workbench.models import list_model_choices
from workbench.runs import run_spec

SAID = "dequantised from Q8_0 (with F32)"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in Q8_0."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", kind="Q8_0", tied=False)


@pytest.mark.parametrize(
    "words",
    [
        ("inspect",),
        ("find", "e"),
        ("neuron", "L1.N3"),
        ("generate", "--prompt", "the", "--max-new-tokens", "3"),
        ("decode",),
        ("decode", "--from-disk"),
        ("experts", "--text", "README.md"),
    ],
)
def test_every_command_takes_the_file_and_says_what_it_is_from(
    path: Path, cli: Cli, words: tuple[str, ...]
) -> None:
    answer = cli(words[0], path, *words[1:], "--json")
    assert answer.code == 0, answer.err
    assert answer.document["weights"] == SAID
    assert f"{path}: {SAID}" in answer.err


def test_inspect_prints_it(path: Path, cli: Cli, tiny: Path) -> None:
    assert re.search(rf"^weights +{re.escape(SAID)}$", cli("inspect", path).out, re.M)
    streamed = load_model(ModelRef(str(path), streamed=True))
    assert inspect_model(streamed).document()["weights"] == SAID
    assert "weights  " not in cli("inspect", tiny).out
    assert cli("inspect", tiny, "--json").document["weights"] is None


def test_two_models_are_named(path: Path, tiny: Path, cli: Cli, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", kind="Q4_0", tied=False)
    said = cli("compare", path, other, "--json").document["weights"]
    assert said == f"{path}: {SAID}; {other}: dequantised from Q4_0 (with F32)"


def test_a_damaged_file_is_one_sentence(cli: Cli, tmp_path: Path, path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:50_000])
    refused(cli, "inspect", tmp_path / "cut.gguf", says="is truncated")


def test_a_run_key_holds_what_the_weights_are_from(path: Path, tiny: Path) -> None:
    packed, plain = load_model(ModelRef(str(path))), load_model(ModelRef(str(tiny)))
    spec = run_spec(packed, "decode", "1", {"site": "up"}, units=1)
    assert spec.parameters == {"site": "up", "weights": SAID}
    assert spec.key != replace(spec, parameters={"site": "up"}).key
    assert run_spec(plain, "decode", "1", {"site": "up"}, units=1).parameters == {"site": "up"}


def test_a_finding_says_it_and_runs_again(path: Path, tmp_path: Path) -> None:
    loaded, store = load_model(ModelRef(str(path))), open_store(tmp_path / "headlamp.db")
    request = GenerationRequest("the", (parse_clamp("L1.N3:key:set:40"),), sampling=Sampling(4))
    kept = keep_generation(loaded, store, generate_pair(loaded, store, request), title="tiny")
    finding = get_finding(store, kept.id)
    assert finding.evidence["weights"] == SAID
    assert list_facts(finding, read_evidence(finding.evidence))["Weights"] == SAID
    assert "| Weights | dequantised from Q8" in write_findings_markdown([finding])
    assert rerun_finding(store, finding.id).same


@pytest.mark.parametrize("chat", [True, False])
def test_the_script_dequantises_the_same_file(tmp_path: Path, chat: bool) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama" if chat else "qwen2", "Q4_1")
    loaded = load_model(ModelRef(str(path)))
    request = GenerationRequest("the", (parse_clamp("L1.N3:key:set:400"),), sampling=Sampling(6))
    result = generate_pair(loaded, open_store(tmp_path / "headlamp.db"), request)
    assert result.base_ids != result.changed_ids
    script = tmp_path / "script.py"
    script.write_text(write_snippet(loaded, result), encoding="utf-8")
    assert runpy.run_path(str(script))["texts"] == (list(result.base_ids), list(result.changed_ids))


def test_a_baked_model_is_an_ordinary_folder(path: Path, tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(path)))
    ablated = parse_clamp("L1.N3:key:ablate").resolve(largest=1.0, mean=0.0)
    save_folder(loaded, bake_weights(loaded, [ablated]), tmp_path / "baked")
    baked = load_model(ModelRef(str(tmp_path / "baked")))
    assert baked.weights_format == ""
    changed = [n for n, v in baked.parameters.items() if not torch.equal(v, loaded.parameters[n])]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    difference = baked.parameters[changed[0]] - loaded.parameters[changed[0]]
    assert difference.any(0).nonzero().flatten().tolist() == [3]
    texts = ["the nearest  tea", "a\nb"]
    assert [baked.tokenizer(t).input_ids for t in texts] == [loaded.tokenizer(t).input_ids for t in texts]
    assert baked.tokenizer.chat_template == loaded.tokenizer.chat_template
    assert baked.ends_of_text == loaded.ends_of_text
    assert "tiny.gguf" not in "".join(p.read_text() for p in (tmp_path / "baked").glob("*.json"))


def test_a_file_is_listed_while_it_is_there(path: Path, cli: Cli, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(path.read_bytes())
    assert cli("inspect", mine).code == 0
    store = open_store(tmp_path / "headlamp.db")
    listed = [choice for choice in list_model_choices(store) if choice.name == str(mine)]
    assert [(choice.path, choice.facts["weights"]) for choice in listed] == [(mine, SAID)]
    assert str(mine) in cli("models").out
    mine.unlink()
    assert str(mine) not in [choice.name for choice in list_model_choices(store)]


def test_a_hub_file_is_fetched_by_the_command_line(hub: StandinHub, path: Path, cli: Cli) -> None:
    hub.models["some/model"] = path.parent
    name = f"some/model:{path.name}"
    answer = cli("generate", name, "--prompt", "the", "--max-new-tokens", "3", "--json")
    assert answer.document["weights"] == SAID
    assert hub.fetched() == [path.name]
    here = cli("generate", path, "--prompt", "the", "--max-new-tokens", "3", "--json").document
    assert here["base"] == answer.document["base"]
