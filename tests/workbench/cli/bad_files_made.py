"""What several tests share of bad files made."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

AGAIN = "download or convert the model again"


def weights_of(folder: Path) -> Path:
    return folder / "model.safetensors"


def with_header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    raw = weights_of(folder).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    weights_of(folder).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])


def offsets(header: dict[str, Any], by: int) -> None:
    entry = header["model.norm.weight"]
    entry["data_offsets"] = [n + by for n in entry["data_offsets"]]


def two_shards(folder: Path) -> None:
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="10KB")
    weights_of(folder).unlink()


def missing_shard(folder: Path) -> None:
    two_shards(folder)
    sorted(folder.glob("*.safetensors"))[-1].unlink()


def no_index(folder: Path) -> None:
    weights_of(folder).rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


def cut_off(folder: Path) -> None:
    weights_of(folder).write_bytes(weights_of(folder).read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a truncated file": (cut_off, "is truncated"),
    "offsets beyond the file": (lambda f: with_header(f, lambda h: offsets(h, 10**9)), "leaves a gap before"),
    "overlapping tensors": (lambda f: with_header(f, lambda h: offsets(h, -4)), "share bytes"),
    "bytes of another shape": (
        lambda f: with_header(f, lambda h: h["model.norm.weight"].update(shape=[17])),
        "but F32 of shape [17] takes 68",
    ),
    "bytes of another dtype": (
        lambda f: with_header(f, lambda h: h["model.norm.weight"].update(dtype="BF16")),
        "but BF16 of shape [16] takes 32",
    ),
    "a missing shard": (missing_shard, "which is not there"),
    "an index that is none": (no_index, "is not an index of weights"),
}
