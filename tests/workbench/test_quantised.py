"""Quantised models in use: commands, run keys, findings, scripts and saved models say what they are from."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp
from analysis.opening.models import ModelRef, load_model
from analysis.running.generation import Sampling
from analysis.saving.baking import bake_weights
from analysis.saving.folders import save_folder
from store import open_store
from store.evidence import list_facts, read_evidence
from tests.analysis.checkpoints.quantised.quantised_made import SAID, WRITERS
from tests.workbench.conftest import Cli
from workbench.findings.findings import get_finding, keep_generation, rerun_finding
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.generating.snippets import why_no_snippet, write_snippet
from workbench.runs import run_spec

FP8 = SAID["FP8 in blocks"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in FP8."""
    return WRITERS["FP8 in blocks, Llama"](tmp_path_factory.mktemp("quantised"))


@pytest.mark.parametrize(
    "words",
    [("inspect",), ("generate", "--prompt", "a dog", "--max-new-tokens", "3"), ("decode", "--from-disk")],
)
def test_commands_say_what_the_weights_are_from(folder: Path, cli: Cli, words: tuple[str, ...]) -> None:
    answer = cli(words[0], folder, *words[1:], "--json")
    assert answer.code == 0, answer.err
    assert answer.document["weights"] == FP8
    assert f"{folder}: {FP8}" in answer.err


def test_inspect_prints_it(folder: Path, cli: Cli) -> None:
    assert re.search(rf"^weights +{re.escape(FP8)}$", cli("inspect", folder).out, re.M)


def test_a_run_key_and_a_finding_hold_it(folder: Path, tmp_path: Path) -> None:
    loaded, store = load_model(ModelRef(str(folder))), open_store(tmp_path / "headlamp.db")
    spec = run_spec(loaded, "decode", "1", {"site": "up"}, units=1)
    assert spec.parameters == {"site": "up", "weights": FP8}
    assert spec.key != replace(spec, parameters={"site": "up"}).key
    request = GenerationRequest("a dog", (parse_clamp("L1.N3:key:set:40"),), sampling=Sampling(4))
    kept = keep_generation(loaded, store, generate_pair(loaded, store, request), title="tiny")
    finding = get_finding(store, kept.id)
    assert list_facts(finding, read_evidence(finding.evidence))["Weights"] == FP8
    assert rerun_finding(store, finding.id).same


@pytest.mark.parametrize(
    "name",
    ["FP8 in blocks, Llama", "MXFP4, gpt-oss", "bitsandbytes NF4, Llama", "compressed-tensors FP8, DeepSeek"],
)
def test_the_script_dequantises_as_transformers_does(tmp_path: Path, name: str) -> None:
    loaded = load_model(ModelRef(str(WRITERS[name](tmp_path / "model"))))
    held = () if loaded.anatomy.blocks[0].fused else (parse_clamp("L0.N3:key:set:400"),)
    request = GenerationRequest("a dog", held, sampling=Sampling(6))
    result = generate_pair(loaded, open_store(tmp_path / "headlamp.db"), request)
    script = tmp_path / "script.py"
    script.write_text(write_snippet(loaded, result), encoding="utf-8")
    assert runpy.run_path(str(script))["texts"] == (list(result.base_ids), list(result.changed_ids))


def test_no_script_is_written_where_transformers_cannot_dequantise(tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(WRITERS["AWQ, Llama"](tmp_path / "model"))))
    assert "which transformers cannot do" in why_no_snippet(loaded, ())
    result = generate_pair(loaded, open_store(tmp_path / "h.db"), GenerationRequest("a dog", ()))
    with pytest.raises(HeadlampError, match=r"dequantised from AWQ .* which transformers cannot do"):
        write_snippet(loaded, result)


def test_a_saved_model_is_not_quantised(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(ModelRef(str(folder)))
    ablated = parse_clamp("L1.N3:key:ablate").resolve(largest=1.0, mean=0.0)
    save_folder(loaded, bake_weights(loaded, [ablated]), tmp_path / "saved")
    saved = load_model(ModelRef(str(tmp_path / "saved")))
    assert saved.weights_format == ""
    changed = [
        name for name, value in saved.parameters.items() if not torch.equal(value, loaded.parameters[name])
    ]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    assert "quantization_config" not in (tmp_path / "saved" / "config.json").read_text()
