"""Random checkpoints of any size on disk, written one layer at a time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, GptOssConfig, LlamaConfig

from demo import BUNDLED

VOCABULARY = 4000  # that of the bundled tokenizer

CONFIGS: dict[str, Any] = {
    "sharded": lambda layers: LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
    ),
    "single file, tied": lambda layers: LlamaConfig(
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        tie_word_embeddings=True,
    ),
    "fused experts": lambda layers: GptOssConfig(
        hidden_size=1024,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=64,
        num_local_experts=32,
        num_experts_per_tok=4,
        vocab_size=VOCABULARY,
    ),
}
"""name → the configuration for a number of layers"""


def write(name: str, folder: Path, gigabytes: float) -> int:
    """Write a bf16 checkpoint of at least this many gigabytes; returns the bytes of its weights."""
    one = _bytes(CONFIGS[name](1))
    layers = 1 + int(gigabytes * 1e9 / (_bytes(CONFIGS[name](2)) - one))
    config = CONFIGS[name](layers)
    config.architectures = [type(_empty(config)).__name__]
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED["demo/base"] / file, folder)
    shapes = dict(_empty(config).named_parameters())
    if name == "single file, tied":
        _write_whole(shapes, folder)
    else:
        _write_shards(shapes, folder)
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _empty(config: Any) -> Any:
    with init_empty_weights():
        return AutoModelForCausalLM.from_config(config)


def _bytes(config: Any) -> int:
    return 2 * sum(p.numel() for p in _empty(config).parameters())


def _write_shards(shapes: dict[str, Tensor], folder: Path) -> None:
    """One file per layer, and an index."""
    files: dict[str, dict[str, Tensor]] = {}
    for name, parameter in shapes.items():
        parts = name.split(".")
        layer = next((part for part in parts if part.isdigit()), "rest")
        files.setdefault(f"model-{layer}.safetensors", {})[name] = parameter
    index: dict[str, str] = {}
    for file, parameters in files.items():
        save_file({name: _random(name, p) for name, p in parameters.items()}, folder / file)
        index |= dict.fromkeys(parameters, file)
    listed = {"metadata": {}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed), encoding="utf-8")


def _write_whole(shapes: dict[str, Tensor], folder: Path) -> None:
    """One file, tensor by tensor: a header, then the bytes."""
    header: dict[str, Any] = {}
    end = 0
    for name, parameter in shapes.items():
        start, end = end, end + 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, parameter in shapes.items():
            file.write(_random(name, parameter).view(torch.uint8).numpy().data)


def _random(name: str, like: Tensor) -> Tensor:
    """Weights with the scale of a trained model; the same for one name in every run."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    if like.dim() == 1:
        return torch.ones(like.shape, dtype=torch.bfloat16)
    numbers = torch.randn(1 << 16, generator=generator).mul_(0.02).bfloat16()
    return numbers.repeat(-(-like.numel() // len(numbers)))[: like.numel()].view(like.shape).contiguous()
