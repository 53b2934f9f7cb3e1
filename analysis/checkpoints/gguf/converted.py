"""Tensors of the architectures for which transformers has conversions of its own (Qwen 3.5, LFM 2)."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from analysis.checkpoints.gguf.contents import GgufHeader, PackedTensor
from analysis.checkpoints.gguf.unpacking import AT_ONCE, PIECE, OfParts, read_packed
from analysis.errors import NotAModel

PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that hold numbers rather than blocks of them."""


@dataclass(frozen=True)
class ConvertedTensor(OfParts):
    """A parameter from one or several tensors of the file. converter: transformers' own, None for a mere
    renaming.

    patterns: which of the converter's source patterns each part belongs to.
    """

    converter: WeightConverter | None
    patterns: tuple[str | None, ...]

    @property
    def unpacking_bytes(self) -> int:
        """See Unpacked: a conversion has the whole tensor some times over."""
        numbers = 0 if self.converter is None else self.numel
        return PIECE + 20 * numbers

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        if tuple(out.shape) != self.shape:
            raise ValueError(f"{self.key} is {self.shape}, not {tuple(out.shape)}")
        with self.parts[0].path.open("rb", buffering=0) as file:
            if self.converter is None:
                self._fill(out, file)
                return
            numbers: Any = {
                pattern: [_unpack(part, file, range(part.shape[0]), out.dtype)]
                for part, pattern in zip(self.parts, self.patterns, strict=True)
            }
            for operation in deepcopy(self.converter.operations):
                numbers = operation.convert(
                    numbers,
                    source_patterns=self.converter.source_patterns,
                    target_patterns=self.converter.target_patterns,
                    full_layer_name=self.key,
                )
            (result,) = numbers.values()
            out.copy_(result)

    def _fill(self, out: Tensor, file: BinaryIO) -> None:
        (part,) = self.parts
        step = max(1, AT_ONCE // max(1, part.numel // part.shape[0]))
        for first in range(0, part.shape[0], step):
            rows = range(first, min(first + step, part.shape[0]))
            out[rows.start : rows.stop].copy_(_unpack(part, file, rows, out.dtype))


def _unpack(part: PackedTensor, file: BinaryIO, rows: range, dtype: torch.dtype) -> Tensor:
    """Some slices of a tensor, dequantised in `dtype`, as transformers does on this path."""
    from gguf import GGMLQuantizationType
    from transformers.integrations.gguf.dequant import dequantize

    packed = torch.frombuffer(read_packed(part, file, rows), dtype=torch.uint8)
    shape = (len(rows), *part.shape[1:])
    if part.kind in PLAIN:
        return packed.view(PLAIN[part.kind]).view(shape)
    flat = packed.view(len(rows) * part.numel // part.shape[0] // part.shape[-1], -1)
    numbers: Tensor = dequantize(flat, GGMLQuantizationType[part.kind].value, dtype)
    return numbers.reshape(shape)


def list_converted(header: GgufHeader, model: PreTrainedModel) -> dict[str, ConvertedTensor]:
    """Every tensor of the file under transformers' name, whether or not the model has a place for it.

    Raises NotAModel for types that transformers does not dequantise for this architecture.
    """
    from gguf import GGMLQuantizationType
    from transformers.integrations.gguf import get_gguf_conversion_mapping
    from transformers.integrations.gguf.dequant import GGML_BLOCK

    mapping = get_gguf_conversion_mapping(header.architecture, model.config)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    parts: defaultdict[str, list[PackedTensor]] = defaultdict(list)
    patterns: defaultdict[str, list[str | None]] = defaultdict(list)
    for tensor in header.tensors.values():
        if tensor.kind not in PLAIN and GGMLQuantizationType[tensor.kind].value not in GGML_BLOCK:
            raise NotAModel(
                f"{header.path}: {tensor.name} is stored as {tensor.kind}, which transformers does not "
                "dequantise "
                f"for {header.architecture}; use a file in another quantisation"
            )
        key, pattern = rename_source_key(tensor.name, renamings, converters)
        parts[key].append(tensor)
        patterns[key].append(pattern)
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {
        key: ConvertedTensor(
            key,
            shapes.get(key, ()),
            tuple(found),
            None if patterns[key][0] is None else by_pattern[patterns[key][0]],
            tuple(patterns[key]),
        )
        for key, found in parts.items()
    }
