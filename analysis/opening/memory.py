"""Memory a model needs, estimated from its configuration and the headers of its weights alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping

from analysis.anatomy.head_matrix import decoding_bytes
from analysis.anatomy.structure import context_length
from analysis.checkpoints.configs import read_config
from analysis.checkpoints.devices import BALANCED, FreeMemory, read_free_memory
from analysis.checkpoints.fingerprint import FileKey, stamp
from analysis.checkpoints.hub import HubModel
from analysis.checkpoints.loading import DTYPES, empty_model
from analysis.checkpoints.matching import match_checkpoint, untie_stored_twice
from analysis.checkpoints.quantised.weights import join_tensors, read_quantisation
from analysis.checkpoints.reading import WeightSource, are_equal, read_tensors
from analysis.checkpoints.stored import BUFFER, StoredTensor
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.opening.alive import activation_bytes, first_number

ROWS = 2
"""Rows of a batch: every generation runs base and changed side by side."""
HELD = 2.1
"""Peak-to-estimate factor for short-lived tensors: the C library's allocator keeps freed memory between
others. the C library's allocator keeps freed tensors that lie between others. It varies between runs
(bench/fit.py); weights are held once.
"""
DEFAULT_CONTEXT = 1024

MemoryVerdict = Literal[
    "load",
    "load in bfloat16",
    "spread over devices",
    "load on the CPU",
    "decode from disk",
    "too large",
]


@dataclass(frozen=True)
class MemoryNeeds:
    """What a model needs, in bytes unless said otherwise.

    parameters: how many, tied ones once. stored: on disk. weights, head: all of them and the LM head, in
    `dtype`. head_copy: the head in float32, which decoding keeps. decoding: what decoding a block takes
    for a while. activations: the most alive, KV cache included, while ROWS sequences of `context` tokens are
    read. layer: the largest layer. unpacking: what dequantising a tensor takes while it is read.
    """

    parameters: int
    stored: int
    weights: int
    head: int
    head_copy: int
    decoding: int
    layer: int
    activations: int
    context: int
    dtype: str
    unpacking: int = 0

    @property
    def peak(self) -> int:
        """The peak: while loading, decoding, or in a run over the whole context."""
        run = self.head_copy + int(HELD * max(self.decoding, self.activations))
        return self.weights + max(BUFFER, self.unpacking, run)

    @property
    def streamed_peak(self) -> int:
        """The peak of decoding from disk: the head as read and as used, a layer, and tiles."""
        once = self.unpacking + int(HELD * self.decoding)
        return self.head + self.head_copy + self.layer + once


@dataclass(frozen=True)
class MemoryFit:
    """Whether a model can be opened here, how, and why. `room`: bytes it may take on its device."""

    verdict: MemoryVerdict
    reason: str
    needs: MemoryNeeds
    memory: FreeMemory
    room: int


def estimate_folder(folder: Path, dtype: str, context: int | None = None) -> MemoryNeeds:
    """Estimate what the model in a folder or GGUF file needs in a dtype. context: tokens, capped by the
    model's own.

    Raises a ModelError for a folder that is no model, or with inconsistent files.
    """
    return _estimate_cached(folder, stamp(folder), dtype, context)


@lru_cache(maxsize=32)
def _estimate_cached(
    folder: Path, files: tuple[FileKey, ...], dtype: str, context: int | None
) -> MemoryNeeds:
    config = read_config(folder)
    tensors = read_tensors(folder, empty_model(config, DTYPES[dtype]))
    return estimate_needs(config, list(tensors.values()), dtype, context)


def estimate_needs(
    config: Any, tensors: Sequence[WeightSource], dtype: str, context: int | None = None
) -> MemoryNeeds:
    """The same from a configuration and headers, whatever their source."""
    empty = empty_model(config, DTYPES[dtype]).to("meta")  # type: ignore[arg-type]
    size, text = DTYPES[dtype].itemsize, config.get_text_config()
    tensors = _without_left_out(empty, tensors)
    width = first_number(text, "hidden_size", "n_embd", "d_model")
    rows = text.vocab_size * width
    length = min(context or DEFAULT_CONTEXT, context_length(config))
    _untie(empty, tensors)
    return MemoryNeeds(
        parameters=sum(p.numel() for p in empty.parameters()),
        stored=sum(t.stored_bytes for t in tensors),
        weights=sum(p.numel() * p.element_size() for p in empty.parameters()),
        head=rows * size,
        head_copy=0 if dtype == "float32" else 4 * rows,
        decoding=decoding_bytes(text.vocab_size, width),
        layer=max(_layers(tensors).values(), default=0) * size,
        activations=activation_bytes(empty, ROWS, length),
        context=length,
        dtype=dtype,
        unpacking=max((t.unpacking_bytes for t in tensors if not isinstance(t, StoredTensor)), default=0),
    )


def _without_left_out(empty: PreTrainedModel, tensors: Sequence[WeightSource]) -> list[WeightSource]:
    """The tensors without those of what a multimodal model is built without, which are never read."""
    left = find_left_out(empty)
    if left is None:
        return list(tensors)
    gone = left.list_keys([tensor.key for tensor in tensors], empty.state_dict())
    return [tensor for tensor in tensors if tensor.key not in gone]


def _untie(empty: PreTrainedModel, tensors: Sequence[WeightSource]) -> None:
    """Untie what the checkpoint holds apart, as loading does. Tensors elsewhere count as different."""
    mapping = get_model_conversion_mapping(empty)
    matched = match_checkpoint(empty, [tensor.key for tensor in tensors], mapping)
    of = {matched.names[t.key]: t for t in tensors if t.key in matched.names}

    def equal(one: str, other: str) -> bool:
        here = of[one].path.is_file() and of[other].path.is_file()
        return here and are_equal(of[one], of[other], empty.dtype)

    untie_stored_twice(empty, of, equal)


def judge_memory(
    of: Mapping[str, MemoryNeeds], memory: FreeMemory, wanted: str, device: str = "cpu"
) -> MemoryFit:
    """Judge whether a model fits, given its needs by dtype; wanted, device: as requested."""
    here, small, room = of[wanted], of["bfloat16"], memory.room(device)

    def fit(verdict: MemoryVerdict, reason: str, found: MemoryNeeds = small) -> MemoryFit:
        return MemoryFit(verdict, reason, found, memory, room)

    if here.peak <= room:
        return fit("load", f"{_size(here.peak)} of {_size(room)} free", here)
    if small.peak <= room:
        return fit(
            "load in bfloat16",
            f"{wanted} would need {_size(here.peak)}, bfloat16 {_size(small.peak)}; {_size(room)} are free",
        )
    together, host = memory.room(BALANCED), memory.room("cpu")
    if len(memory.accelerators) > 1 and device != BALANCED and small.peak <= together:
        return fit(
            "spread over devices",
            f"no device has {_size(small.peak)}, the {len(memory.accelerators)} accelerators together have "
            f"{_size(together)}",
        )
    short = f"even in bfloat16 it would need {_size(small.peak)}, and {_size(room)} are free"
    if device != "cpu" and small.peak <= host:
        return fit("load on the CPU", f"{short}; beside the CPU {_size(host)} are")
    if here.streamed_peak <= host:
        return fit("decode from disk", f"{short}; decoding from disk needs {_size(here.streamed_peak)}", here)
    reason = f"even decoding from disk needs {_size(here.streamed_peak)}; {_size(host)} are free"
    return fit("too large", reason, here)


def check_memory(folder: Path, dtype: str, context: int | None = None, device: str = "cpu") -> MemoryFit:
    """Check whether the model in a folder fits on a device of this machine now."""
    return _judge_dtypes(lambda wanted: estimate_folder(folder, wanted, context), dtype, device)


def check_memory_at_hub(
    model: HubModel, dtype: str, context: int | None = None, device: str = "cpu"
) -> MemoryFit:
    """The same for a model at the Hub, from its shards' headers, fetched once. Raises ModelError."""
    return _judge_dtypes(lambda wanted: _estimate_cached_at_hub(model, wanted, context), dtype, device)


@lru_cache(maxsize=32)
def _estimate_cached_at_hub(model: HubModel, dtype: str, context: int | None) -> MemoryNeeds:
    config = read_config(model.folder, weights_here=False)
    tensors = join_tensors(model.folder, model.tensors(), read_quantisation(model.folder))
    return estimate_needs(config, list(tensors.values()), dtype, context)


def _judge_dtypes(of: Callable[[str], MemoryNeeds], dtype: str, device: str) -> MemoryFit:
    return judge_memory({name: of(name) for name in (dtype, "bfloat16")}, read_free_memory(), dtype, device)


def _layers(tensors: Sequence[WeightSource]) -> dict[str, int]:
    """Numbers per layer."""
    sums: dict[str, int] = {}
    for tensor in tensors:
        layer = re.match(r"(.*?\.)?\d+(?=\.)", tensor.key)
        if layer is not None:
            sums[layer.group()] = sums.get(layer.group(), 0) + tensor.numel
    return sums


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
