"""Will it fit: needs from configuration and headers, verdicts from needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from analysis.checkpoints.devices import BALANCED, FreeMemory
from analysis.checkpoints.stored import BUFFER
from analysis.errors import ModelError, NotAModel
from analysis.opening import memory as fitting
from analysis.opening.memory import HELD, MemoryNeeds, check_memory, estimate_folder, judge_memory

CONFIG = LlamaConfig(
    vocab_size=500,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2000,
    tie_word_embeddings=False,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = AutoModelForCausalLM.from_config(CONFIG).to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    return tmp_path


def test_parameters_and_bytes_are_those_of_the_checkpoint(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    count = sum(p.numel() for p in model.parameters())
    found = estimate_folder(folder, "float32")
    assert found.parameters == count
    assert (found.stored, found.weights) == (2 * count, 4 * count)
    assert found.head == 4 * model.lm_head.weight.numel()
    assert found.layer == 4 * sum(p.numel() for p in model.model.layers[0].parameters())
    assert estimate_folder(folder, "bfloat16").weights == 2 * count


def test_a_tied_head_that_is_stored_twice_is_counted_once_where_it_is_the_same(folder: Path) -> None:
    untied = estimate_folder(folder, "float32")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    assert estimate_folder(folder, "float32") == untied
    (shard,) = (p for p in folder.glob("*.safetensors") if "lm_head.weight" in load_file(p))
    embedding = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight
    save_file(
        load_file(shard) | {"lm_head.weight": embedding.detach().clone()}, shard, metadata={"format": "pt"}
    )
    tied = estimate_folder(folder, "float32")
    assert untied.weights - tied.weights == tied.head
    assert tied.stored == untied.stored


def test_decoding_keeps_a_float32_head_beside_one_of_low_precision(folder: Path) -> None:
    whole, half = estimate_folder(folder, "float32"), estimate_folder(folder, "bfloat16")
    assert (whole.head_copy, half.head_copy) == (0, whole.head)


def test_activations_grow_with_the_context_up_to_the_models_own(folder: Path) -> None:
    short, long, beyond = (estimate_folder(folder, "float32", n) for n in (100, 1000, 10_000))
    assert long.activations == pytest.approx(10 * short.activations, rel=0.01)
    assert beyond.context == 2000
    assert estimate_folder(folder, "bfloat16", 100).activations == pytest.approx(
        short.activations / 2, rel=0.05
    )


def test_the_peak_is_the_worst_of_loading_decoding_and_running() -> None:
    found = MemoryNeeds(0, 0, 10**9, 0, 3, 0, 0, 0, 1024, "float32")
    assert found.peak == 10**9 + BUFFER
    assert replace(found, decoding=10**8).peak == 10**9 + 3 + int(HELD * 10**8)
    assert replace(found, decoding=10**8, activations=10**9).peak == 10**9 + 3 + int(HELD * 10**9)


def test_needs_are_known_until_a_file_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = estimate_folder(folder, "float32")
    monkeypatch.setattr(fitting, "estimate_needs", lambda *_: None)
    assert estimate_folder(folder, "float32") is first
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes())
    assert estimate_folder(folder, "float32") is None


def of(weights: int, streamed: int = 10) -> dict[str, MemoryNeeds]:
    """Needs of a model of so many megabytes in float32, and of so many to decode it from disk."""
    unit = 10**9
    whole = MemoryNeeds(0, 0, weights * unit - BUFFER, 0, 0, 0, streamed * unit, 0, 1024, "float32")
    half = replace(whole, weights=weights * unit // 2 - BUFFER, dtype="bfloat16")
    return {"float32": whole, "bfloat16": half}


def memory(host: int, *accelerators: int) -> FreeMemory:
    return FreeMemory(host * 10**9, tuple(count * 10**9 for count in accelerators))


@pytest.mark.parametrize(
    ("weights", "free", "device", "verdict"),
    [
        (90, memory(100), "cpu", "load"),
        (91, memory(100), "cpu", "load in bfloat16"),
        (180, memory(100), "cpu", "load in bfloat16"),
        (182, memory(100), "cpu", "decode from disk"),
        (90, memory(10, 100), "cuda", "load"),
        (90, memory(20, 100), "cpu", "decode from disk"),
        (90, memory(10, 20, 100), "cuda:1", "load"),
        (90, memory(100, 20), "cuda", "load on the CPU"),
        (180, memory(100, 20, 30), "cuda", "load on the CPU"),
        (180, memory(20, 60, 60), "cuda", "spread over devices"),
        (180, memory(100, 60, 60), "cuda", "spread over devices"),
        (180, memory(20, 100), "cuda", "load in bfloat16"),
        (182, memory(20, 100), "cuda", "decode from disk"),
        (100, memory(10, 60, 60), BALANCED, "load"),
        (200, memory(10, 60, 60), BALANCED, "load in bfloat16"),
        (220, memory(20, 60, 60), BALANCED, "decode from disk"),
    ],
)
def test_the_verdict_follows_from_what_is_free(
    weights: int, free: FreeMemory, device: str, verdict: str
) -> None:
    found = judge_memory(of(weights), free, "float32", device)
    assert found.verdict == verdict
    assert "GB" in found.reason
    assert found.room == free.room(device)
    assert found.needs.dtype == ("float32" if verdict in ("load", "decode from disk") else "bfloat16")


def test_a_model_whose_layer_alone_is_too_large_is_told() -> None:
    found = judge_memory(of(1000, streamed=200), memory(100), "float32")
    assert found.verdict == "too large"
    assert "200.00 GB; 90.00 GB are free" in found.reason


def test_this_machine_has_room_for_a_small_model(folder: Path) -> None:
    found = check_memory(folder, "float32")
    assert found.verdict == "load"
    assert found.memory.host > 0
    assert "MB of" in found.reason


def test_a_damaged_file_is_told(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(NotAModel, match=r"cannot be read"):
        estimate_folder(folder, "float32")


def test_a_config_that_makes_no_model_is_told(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "no-such-function"}))
    with pytest.raises(ModelError, match="no model can be built"):
        estimate_folder(folder, "float32")
