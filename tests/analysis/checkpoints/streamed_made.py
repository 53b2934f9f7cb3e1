"""What several tests share of streamed made."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
)

from tests.analysis.conftest import tiny_tokenizer


def on_disk(folder: Path, config: PretrainedConfig, shard: str = "5GB") -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=shard)
    tiny_tokenizer().save_pretrained(folder)
    return folder
