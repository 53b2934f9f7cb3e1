"""Random models of a few hundred megabytes with the bundled tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from demo import BUNDLED


def write_small(config: Any, folder: Path) -> Path:
    """Write a random bf16 model of this configuration; its folder."""
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED["demo/base"] / file, folder)
    return folder
