"""What a forward pass keeps alive: counted without numbers as it is counted with them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache, GPT2Config, LlamaConfig, MixtralConfig, PretrainedConfig

from analysis.checkpoints.loading import empty_model
from analysis.opening import alive
from analysis.opening.alive import Alive, activation_bytes

LENGTH, ROWS = 40, 2
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=200,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
    ),
    "gpt2": GPT2Config(vocab_size=97, n_embd=32, n_layer=3, n_head=4, n_positions=64),
    "mixtral": MixtralConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    ),
}


def really(config: Any, dtype: torch.dtype) -> int:
    """The most that is alive while a model with numbers reads."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    counted = Alive()
    with torch.inference_mode(), counted:
        ids = torch.arange(LENGTH).expand(ROWS, -1)
        cache = DynamicCache(config=model.config)
        model(input_ids=ids, position_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return counted.most


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", CONFIGS)
def test_shapes_alone_give_what_numbers_give(family: str, dtype: torch.dtype) -> None:
    empty: Any = empty_model(CONFIGS[family], dtype)
    found = activation_bytes(empty.to("meta"), ROWS, LENGTH)
    assert found == pytest.approx(really(CONFIGS[family], dtype), rel=0.02)


@pytest.mark.parametrize("family", CONFIGS)
def test_what_cannot_run_without_numbers_is_reckoned_about_right(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")

    monkeypatch.setattr(alive, "_count_bytes", fail)
    found = activation_bytes(empty_model(CONFIGS[family], torch.float32), ROWS, LENGTH)
    assert found == pytest.approx(really(CONFIGS[family], torch.float32), rel=0.35)


def test_a_tensor_counts_until_nobody_holds_it() -> None:
    counted = Alive()
    with counted:
        one = torch.zeros(100)
        view = one.view(10, 10)
        other = torch.zeros(50)
        del other
        three = torch.zeros(100)
        three += 1
    assert view.shape == (10, 10)
    assert counted.most == 800
