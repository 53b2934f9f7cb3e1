"""Will it fit: needs from headers, verdicts from needs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from analysis.errors import NotAModel
from analysis.fit import BYTES, Memory, Needs, fit, headers, judge, needs

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
    found = needs(folder, "float32")
    assert found.parameters == count
    assert (found.stored, found.weights) == (2 * count, 4 * count)
    assert found.head == 4 * model.lm_head.weight.numel()
    assert found.layer == 4 * sum(p.numel() for p in model.model.layers[0].parameters())
    assert len(headers(folder)) == len(list(model.parameters()))


def test_activations_grow_with_the_context_up_to_the_models_own(folder: Path) -> None:
    short, long, beyond = (needs(folder, "float32", n) for n in (100, 1000, 10_000))
    assert long.activations == pytest.approx(10 * short.activations)
    assert beyond.context == 2000
    assert needs(folder, "bfloat16", 100).activations == short.activations // 2


def of(weights: int, streamed: int = 10) -> dict[str, Needs]:
    """Needs of a model of so many bytes in float32."""
    whole = Needs(0, 0, weights, streamed // 4, 0, streamed // 4, 0, 1024, "float32")
    return {name: replace(whole, weights=weights * size // 4, dtype=name) for name, size in BYTES.items()}


@pytest.mark.parametrize(
    ("weights", "memory", "verdict"),
    [
        (90, Memory(100), "load"),
        (91, Memory(100), "load in bfloat16"),
        (180, Memory(100), "load in bfloat16"),
        (182, Memory(100), "decode from disk"),
        (360, Memory(100, (100,)), "spread over devices"),
        (362, Memory(100, (100,)), "decode from disk"),
        (90, Memory(10, (100,)), "load"),
    ],
)
def test_the_verdict_follows_from_what_is_free(weights: int, memory: Memory, verdict: str) -> None:
    found = judge(of(weights), memory, "float32")
    assert found.verdict == verdict
    assert "GB" in found.reason


def test_a_model_whose_layer_alone_is_too_large_is_told(folder: Path) -> None:
    assert judge(of(1000, streamed=200), Memory(100), "float32").verdict == "too large"


def test_this_machine_has_room_for_a_small_model(folder: Path) -> None:
    found = fit(folder, "float32")
    assert found.verdict == "load"
    assert found.memory.host > 0


def test_a_header_that_is_cut_off_is_told(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(NotAModel, match=r"cannot be read"):
        headers(folder)
