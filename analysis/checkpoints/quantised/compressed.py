"""Weights of compressed-tensors: integers, packed or not, FP8 and FP4, each with scales in a grid.

Numbers are computed as transformers has them from the library: rounded to the dtype of their scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from analysis.checkpoints.quantised.fp8 import as_numbers, unpack_fp4
from analysis.checkpoints.quantised.grids import Block, find_block, spread
from analysis.checkpoints.quantised.packed_integers import WORD, unpack_integers
from analysis.checkpoints.quantised.parts import DequantisedTensor, Part, read_part, split_rows
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

READ = {
    *("int-quantized", "float-quantized", "naive-quantized", "pack-quantized", "mixed-precision"),
    *("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized"),
}
"""Formats of the library that are read."""

_EXPERT = re.compile(r"\.experts\.\d+\.")


@dataclass(frozen=True)
class CompressedTensor(DequantisedTensor):
    """A matrix: (number − zero) × scale, or × scale / global scale. bits: of packed integers, as the
    configuration's groups have them. schemes: what those groups say of weights.
    """

    bits: tuple[int, ...]
    schemes: tuple[Mapping[str, Any], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        if "shape" in self.parts:
            rows, columns = read_part(self.parts["shape"]).tolist()
            return rows, columns
        packed = self._packed
        return packed.shape if "weight" in self.parts else (packed.shape[0], self._per_word * packed.shape[1])

    @property
    def numel(self) -> int:
        """See DequantisedTensor; without reading the shape, so a few too many where the last words of rows
        are not full.
        """
        return prod(self._packed.shape) * (1 if "weight" in self.parts else self._per_word)

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        self._require_shape(out)
        if "order" in self.parts:
            raise NotAModel(
                f"{self.key} has its inputs in groups of their own order (weight_g_idx), which "
                "compressed-tensors no longer reads either; use a model that was quantised without it"
            )
        scale = self._read_scale()
        block = self._find_block(scale)
        zeros = self._read_zeros(scale)
        rounded = self._rounded
        for rows in split_rows(*self.shape):
            numbers = self._read_numbers(rows, out.shape[1])
            if zeros is not None:
                numbers = numbers - spread(zeros, block, rows, out.shape[1])
            numbers = numbers * spread(scale, block, rows, out.shape[1])
            out[rows.start : rows.stop].copy_(numbers.to(rounded))

    def _find_block(self, scale: Tensor) -> Block:
        rows, columns = self.shape
        found = [_read_block(scheme, rows, columns) for scheme in self.schemes]
        known = [block for block in found if block is not None]
        grid = (scale.shape[0], scale.shape[1])
        return find_block(self.key, (rows, columns), grid, known, others=len(known) < len(found) or not found)

    @property
    def _packed(self) -> Part:
        return self.parts["weight"] if "weight" in self.parts else self.parts["packed"]

    @property
    def _four_bit_floats(self) -> bool:
        return "weight" not in self.parts and self._packed.dtype == torch.uint8

    @property
    def _per_word(self) -> int:
        return 2 if self._four_bit_floats else WORD // self._bits

    @cached_property
    def _bits(self) -> int:
        if len(self.bits) == 1:
            return self.bits[0]
        words, columns = self._packed.shape[1], int(read_part(self.parts["shape"])[1])
        for bits in self.bits:
            if -(-columns * bits // WORD) == words:
                return bits
        raise NotAModel(f"{self.key} has {words} words a row, which no group of its config.json has{AGAIN}")

    @property
    def _rounded(self) -> torch.dtype:
        """The dtype of the products: the scale's, but that the library takes FP4 as bfloat16, and
        transformers takes FP8 experts as float32.
        """
        if self._four_bit_floats:
            return torch.bfloat16
        scale = self.parts["scale"].dtype
        expert = self._packed.dtype.is_floating_point and _EXPERT.search(self.key)
        return torch.float32 if expert or scale.itemsize == 1 else scale

    def _read_scale(self) -> Tensor:
        scale = as_numbers(read_part(self.parts["scale"]))
        if "global" in self.parts:
            scale = scale / read_part(self.parts["global"]).float()
        return scale.reshape(1, 1) if scale.numel() == 1 else scale.reshape(len(scale), -1)

    def _read_zeros(self, scale: Tensor) -> Tensor | None:
        if "zeros" not in self.parts:
            return None
        stored = read_part(self.parts["zeros"])
        if stored.dtype == torch.int32:
            stored = unpack_integers(stored.T.contiguous(), self._bits, len(scale)).T - self._offset
        return stored.float().reshape(scale.shape)

    @property
    def _offset(self) -> int:
        return 1 << (self._bits - 1)

    def _read_numbers(self, rows: range, columns: int) -> Tensor:
        stored = read_part(self._packed.rows(rows))
        if "weight" in self.parts:
            return stored.float()
        if self._four_bit_floats:
            return unpack_fp4(stored)
        return (unpack_integers(stored, self._bits, columns) - self._offset).float()


def make_compressed(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> CompressedTensor:
    """The weight of some parts. Raises NotAModel for one that is no matrix."""
    found = CompressedTensor(
        key,
        parts,
        tuple(sorted({w["num_bits"] for w in _weights(settings) if w.get("type", "int") == "int"})),
        tuple(_weights(settings)),
    )
    packed = found._packed
    known = (torch.uint8, torch.int32) if "packed" in parts else (torch.int8, torch.float8_e4m3fn)
    of_no_bits = packed.dtype == torch.int32 and not found.bits
    if len(packed.shape) != 2 or packed.dtype not in known or of_no_bits:
        raise NotAModel(
            f"{key} is stored as {str(packed.dtype).removeprefix('torch.')} of shape {list(packed.shape)}, "
            f"which is none of the matrices of compressed-tensors{AGAIN}"
        )
    return found


def _read_block(scheme: Mapping[str, Any], rows: int, columns: int) -> Block | None:
    """Rows and columns that share a scale of a matrix, by what a group says of its weights (see the library's
    QuantizationArgs); None where it says nothing that is known.
    """
    strategy, size, structure = (scheme.get(n) for n in ("strategy", "group_size", "block_structure"))
    if strategy is None:
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    if strategy in ("tensor", "channel"):
        return (rows if strategy == "tensor" else 1), columns
    sizes = structure if strategy == "block" and isinstance(structure, (list, tuple)) else (1, size)
    if len(sizes) != 2 or not all(type(n) is int and n > 0 for n in sizes):
        return None
    return sizes[0], sizes[1]


def describe_compressed(settings: Mapping[str, Any]) -> str:
    """Such as "compressed-tensors pack-quantized (int4)"."""
    kinds = {f"{weights.get('type', 'int')}{weights['num_bits']}" for weights in _weights(settings)}
    return f"compressed-tensors {settings.get('format')} ({', '.join(sorted(kinds))})"


def explain_compressed(settings: Mapping[str, Any]) -> str:
    """What cannot be read of such weights; empty where all can."""
    sparse = settings.get("sparsity_config") or {}
    layouts = {group.get("format") or settings.get("format") for group in _groups(settings)}
    unknown = sorted(str(layout) for layout in layouts - READ)
    if unknown or not layouts:
        return f"in the format {unknown[0] if unknown else settings.get('format')} of compressed-tensors"
    if sparse.get("format", "dense") != "dense":
        return f"in the sparse format {sparse['format']} of compressed-tensors"
    return ""


def _groups(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    groups = settings.get("config_groups")
    for group in groups.values() if isinstance(groups, Mapping) else ():
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping):
            yield group


def _weights(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [group["weights"] for group in _groups(settings)]
    for weights in found:
        if type(weights.get("num_bits")) is not int or not 1 <= weights["num_bits"] <= 8:
            raise NotAModel(f"config.json gives weights {weights.get('num_bits')!r} bits, not 1 to 8{AGAIN}")
    return found
