"""Will it fit? What a model needs in memory, from its configuration and the headers of its weights alone."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from analysis.checkpoints import checkpoint_keys
from analysis.errors import NotAModel
from analysis.sources import read_config

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
ROWS = 2
"""Sequences in a batch: every generation is run as it is and changed, side by side."""
HELD = 2
"""How much more than what is alive the allocator holds of them at the worst moment (bench/fit.py)."""
SPARE = 0.9
"""Share of the free memory that a model may take."""

Verdict = Literal["load", "load in bfloat16", "spread over devices", "decode from disk", "too large"]


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, as its header says."""

    key: str
    dtype: str
    shape: tuple[int, ...]
    stored_bytes: int

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Needs:
    """What a model needs, in bytes unless said otherwise. activations: KV cache and the widest layer's
    intermediate results for ROWS sequences of `context` tokens. head: the LM head. largest: the biggest
    tensor, which is held twice for a moment while it is converted. layer: the biggest layer."""

    parameters: int
    stored: int
    weights: int
    head: int
    largest: int
    layer: int
    activations: int
    context: int
    dtype: str

    @property
    def peak(self) -> int:
        """The most that is held at once: while loading, or in a run over the whole context."""
        return self.weights + max(self.largest, self.activations)

    @property
    def streamed_peak(self) -> int:
        """The most that decoding from disk holds: the head as read and as used, a layer, and tiles."""
        return 2 * self.head + 2 * self.layer


@dataclass(frozen=True)
class Memory:
    """Free bytes of this machine: host, and each accelerator."""

    host: int
    accelerators: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fit:
    """Whether a model can be opened here, how, and why so."""

    verdict: Verdict
    reason: str
    needs: Needs
    memory: Memory


def headers(folder: Path) -> list[StoredTensor]:
    """Every tensor of a checkpoint, from its files' headers alone. NotAModel where one is damaged."""
    found = []
    for path in sorted(set(checkpoint_keys(folder).values())):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                listed = json.loads(file.read(length))
        except (OSError, ValueError, struct.error) as error:
            raise NotAModel(f"{path} cannot be read ({error}); fetch or convert the model again") from error
        for key, entry in listed.items():
            if key != "__metadata__":
                start, end = entry["data_offsets"]
                found.append(StoredTensor(key, entry["dtype"], tuple(entry["shape"]), end - start))
    return found


def needs(folder: Path, dtype: str, context: int | None = None) -> Needs:
    """What the model in a folder needs in a dtype. context: tokens; at most what the model can take."""
    return estimate(read_config(folder), headers(folder), dtype, context)


def estimate(config: Any, tensors: Sequence[StoredTensor], dtype: str, context: int | None = None) -> Needs:
    """The same from a configuration and headers, wherever these came from."""
    text = config.get_text_config()
    size = BYTES[dtype]
    length = min(context or DEFAULT_CONTEXT, _first(text, "max_position_embeddings", "n_positions") or 2048)
    return Needs(
        parameters=sum(t.numel for t in tensors),
        stored=sum(t.stored_bytes for t in tensors),
        weights=sum(t.numel for t in tensors) * size,
        head=text.vocab_size * _first(text, "hidden_size", "n_embd", "d_model") * size,
        largest=max(t.numel for t in tensors) * size,
        layer=max(_layers(tensors).values(), default=0) * size,
        activations=_activations(text, tensors, length) * size,
        context=length,
        dtype=dtype,
    )


DEFAULT_CONTEXT = 1024


def judge(of: Mapping[str, Needs], memory: Memory, wanted: str) -> Fit:
    """The verdict for a model whose needs are known by dtype; wanted: the dtype asked for."""
    room = int(SPARE * max(memory.host, *memory.accelerators, 0))
    here, small = of[wanted], of["bfloat16"]
    if here.peak <= room:
        return Fit("load", f"{_gb(here.peak)} of {_gb(room)} free", here, memory)
    if small.peak <= room:
        reason = f"{wanted} would need {_gb(here.peak)}, bfloat16 {_gb(small.peak)}; {_gb(room)} are free"
        return Fit("load in bfloat16", reason, small, memory)
    together = int(SPARE * (memory.host + sum(memory.accelerators)))
    if memory.accelerators and small.peak <= together:
        reason = f"no device has {_gb(small.peak)}, all together have {_gb(together)}"
        return Fit("spread over devices", reason, small, memory)
    if here.streamed_peak <= room:
        reason = (
            f"even in bfloat16 it would need {_gb(small.peak)}, and {_gb(room)} are free; "
            f"decoding from disk needs {_gb(here.streamed_peak)}"
        )
        return Fit("decode from disk", reason, here, memory)
    reason = f"even decoding from disk needs {_gb(here.streamed_peak)}; {_gb(room)} are free"
    return Fit("too large", reason, here, memory)


def fit(folder: Path, dtype: str, context: int | None = None) -> Fit:
    """Whether the model in a folder can be opened on this machine now."""
    config, tensors = read_config(folder), headers(folder)
    of = {name: estimate(config, tensors, name, context) for name in BYTES}
    return judge(of, free_memory(), dtype)


def free_memory() -> Memory:
    """What is free now; of the host, at most what this process's control group still allows."""
    host = psutil.virtual_memory().available
    limit, used = (_number(CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is not None and used is not None:
        host = min(host, max(limit - used, 0))
    devices = range(torch.cuda.device_count())
    return Memory(host, tuple(torch.cuda.mem_get_info(device)[0] for device in devices))


CGROUP = Path("/sys/fs/cgroup")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _layers(tensors: Sequence[StoredTensor]) -> dict[str, int]:
    """Numbers per layer."""
    sums: dict[str, int] = {}
    for tensor in tensors:
        parts = tensor.key.split(".")
        number = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if number is not None:
            layer = ".".join(parts[: number + 1])
            sums[layer] = sums.get(layer, 0) + tensor.numel
    return sums


def _activations(text: Any, tensors: Sequence[StoredTensor], length: int) -> int:
    """Numbers in the KV cache of all layers, and between the parts of the widest layer."""
    heads = _first(text, "num_attention_heads", "n_head") or 1
    width = _first(text, "hidden_size", "n_embd", "d_model")
    head = _first(text, "head_dim") or width // heads
    groups = _first(text, "num_key_value_heads") or heads
    layers = _first(text, "num_hidden_layers", "n_layer")
    cache = 2 * layers * groups * head * length
    inner = _first(text, "intermediate_size", "n_inner", "ffn_dim", "d_ff") or 4 * width
    return HELD * ROWS * (cache + (3 * inner + 6 * width) * length)


def _first(config: Any, *names: str) -> int:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), 0)


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
