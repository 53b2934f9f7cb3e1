"""What several tests share of experts made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from tests.pages.conftest import HOSTILE, hostile_tokenizer

TEXT = " ".join(["dog cat the a ran and day"] * 60)


@pytest.fixture(scope="session")
def moe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixtral of 3 layers with 4 experts, L1.E2 super, and texts of its own in its folder."""
    folder = tmp_path_factory.mktemp("tiny-moe")
    tokenizer = hostile_tokenizer()
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=64,
        initializer_range=0.4,
    )
    model = MixtralForCausalLM(config)
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj[2, 5, 3] = 1e5
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "calibration.txt").write_text(TEXT)
    (folder / "evaluation.txt").write_text(f"{HOSTILE[0]} {TEXT[::-1]} the dog ran and the cat ran " * 3)
    return folder
