"""bitsandbytes weights: 4 bits (NF4, FP4) with a scale per block of neighbours, 8 bits with one per row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from analysis.checkpoints.quantised.parts import DequantisedTensor, Part, read_part, split_rows
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

_OF_127 = 7.874015718698502e-3
"""1 / 127 as bitsandbytes has it."""
_EVEN = 8
"""Rows of this multiple begin with a byte, and with a number of the dtype that bytes may be stored as."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class FourBitTensor(DequantisedTensor):
    """Two numbers per byte, the first in the upper bits: indices into a table of 16 numbers, times the
    largest number of their block. These may themselves be stored in 8 bits. kind: "nf4" or "fp4" as the
    configuration states it; None where it does not.
    """

    outputs_first = True
    kind: str | None

    @cached_property
    def _state(self) -> dict[str, Any]:
        """What the quantisation was: "shape", "blocksize", "dtype" and, of nested ones, more."""
        text = bytes(read_part(self.parts["state"]).tolist())
        try:
            found: dict[str, Any] = json.loads(text)
            numbers = [found["blocksize"], *found["shape"]]
            if not all(type(n) is int and n > 0 for n in numbers) or found["dtype"] not in _DTYPES:
                raise ValueError("sizes must be whole numbers, and the dtype a known one")
        except (ValueError, LookupError, TypeError) as error:
            raise NotAModel(
                f"the quantisation state of {self.key} cannot be read ({error}){AGAIN}"
            ) from error
        if -(-prod(found["shape"]) // 2) != self.numel // 2:
            raise NotAModel(f"{self.key} is {found['shape']}, but {self.numel} numbers are stored{AGAIN}")
        if self.kind is not None and found.get("quant_type", self.kind) != self.kind:
            raise NotAModel(
                f"{self.key} is {found['quant_type']}, and by its config.json {self.kind} "
                "(bnb_4bit_quant_type); use the config.json that belongs to these weights"
            )
        self._require_scales(found)
        return found

    def _require_scales(self, state: Mapping[str, Any]) -> None:
        """Raise NotAModel where the numbers of the scales are not those of the blocks."""
        blocks = -(-prod(state["shape"]) // state["blocksize"])
        self._require_numbers("absmax", blocks)
        if "nested_absmax" in self.parts:
            size, offset = state.get("nested_blocksize"), state.get("nested_offset")
            if type(size) is not int or size < 1 or not isinstance(offset, (int, float)):
                raise NotAModel(
                    f"the quantisation state of {self.key} has no block size and offset of its nested scales"
                    f"{AGAIN}"
                )
            self._require_numbers("nested_absmax", -(-blocks // size))

    def _require_numbers(self, role: str, count: int) -> None:
        given = list(self.parts[role].shape)
        if given != [count]:
            raise NotAModel(f"{self.key} has {role} of shape {given}, and its numbers need {[count]}{AGAIN}")

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        return tuple(self._state["shape"])

    @property
    def numel(self) -> int:
        """See DequantisedTensor; without reading the shape, so one too many of an odd number."""
        packed = self.parts["weight"]
        return 2 * prod(packed.shape) * packed.dtype.itemsize

    def read_into(self, out: Tensor) -> None:
        """See Source: as bitsandbytes computes it, rounded to the dtype that was quantised."""
        self._require_shape(out)
        largest, table = self._read_largest(), read_part(self.parts["quant_map"]).float()
        size, dtype = self._state["blocksize"], _DTYPES[self._state["dtype"]]
        columns = prod(self.shape[1:])
        for rows in split_rows(self.shape[0], columns, _EVEN):
            indices = self._read_indices(range(rows.start * columns, rows.stop * columns))
            block = torch.arange(rows.start * columns, rows.stop * columns) // size
            numbers = (table[indices] * largest[block]).to(dtype)
            out[rows.start : rows.stop].copy_(numbers.view(len(rows), *self.shape[1:]))

    def _read_indices(self, numbers: range) -> Tensor:
        packed = self.parts["weight"]
        size = packed.dtype.itemsize
        rows = range(numbers.start // 2 // size, -(-numbers.stop // (2 * size)))
        packed_bytes = read_part(packed.rows(rows)).reshape(-1).view(torch.uint8)
        both = torch.stack([packed_bytes >> 4, packed_bytes & 0xF], dim=1)
        return both.view(-1)[: len(numbers)].long()

    def _read_largest(self) -> Tensor:
        """(blocks,) float32."""
        stored = read_part(self.parts["absmax"])
        if "nested_absmax" not in self.parts:
            return stored.float()
        table, largest = (read_part(self.parts[f"nested_{name}"]) for name in ("quant_map", "absmax"))
        block = torch.arange(stored.numel()) // int(self._state["nested_blocksize"])
        return table[stored.long()] * largest[block] + float(self._state["nested_offset"])


class EightBitTensor(DequantisedTensor):
    """(rows, columns) int8, each row with the largest of its numbers, which stands for 127."""

    outputs_first = True

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        return self.parts["weight"].shape

    def read_into(self, out: Tensor) -> None:
        """See Source. Raises NotAModel for a layout that only a GPU's kernels read."""
        self._require_shape(out)
        if "layout" in self.parts and read_part(self.parts["layout"]).item() != 0:
            raise NotAModel(
                f"{self.key} is stored in a layout for one kind of GPU; load it with bitsandbytes there and "
                "save it again"
            )
        largest = read_part(self.parts["largest"]).float()[:, None]
        for rows in split_rows(*self.shape):
            numbers = read_part(self.parts["weight"].rows(rows)) * largest[rows.start : rows.stop]
            out[rows.start : rows.stop].copy_(numbers * _OF_127)


def make_four_bit(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> FourBitTensor:
    """The weight of the parts that bitsandbytes saves of 4 bits. Raises NotAModel if a table of numbers is
    not whole; scales are checked where the shape is read.
    """
    found = FourBitTensor(key, parts, settings.get("bnb_4bit_quant_type"))
    found._require_numbers("quant_map", 1 << 4)
    if ("nested_absmax" in parts) != ("nested_quant_map" in parts):
        raise NotAModel(f"{key} has one of nested_absmax and nested_quant_map without the other{AGAIN}")
    if "nested_quant_map" in parts:
        found._require_numbers("nested_quant_map", 1 << 8)
    return found


def make_eight_bit(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> EightBitTensor:
    """The same of 8 bits. Raises NotAModel if the rows have no number each."""
    weight, largest = parts["weight"], parts["largest"]
    if weight.dtype != torch.int8 or len(weight.shape) != 2 or largest.shape != weight.shape[:1]:
        raise NotAModel(f"{key} is {list(weight.shape)} with {list(largest.shape)} scales of rows{AGAIN}")
    return EightBitTensor(key, parts)


def describe_four_bit(settings: Mapping[str, Any]) -> str:
    """Such as "bitsandbytes NF4"."""
    nested = " with nested scales" if settings.get("bnb_4bit_use_double_quant") else ""
    kind = settings.get("bnb_4bit_quant_type")
    return f"bitsandbytes {str(kind).upper() if kind else 'of 4 bits'}{nested}"
