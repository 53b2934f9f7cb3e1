"""FP8 weights with a scale per block, per row or per tensor, as transformers' FineGrainedFP8 stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from analysis.checkpoints.quantised.grids import Block, find_block
from analysis.checkpoints.quantised.parts import DequantisedTensor, Part, read_part, split_rows
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

_PACKED_FP4 = torch.int8
"""Two FP4 numbers per byte: the experts of some checkpoints whose other weights are FP8."""

_FP4_BLOCK = (1, 32)
"""Their block, whatever that of the FP8 weights is (see transformers' FP8Experts)."""

_SIZE = "weight_block_size"

_WEIGHTS = {torch.float8_e4m3fn, torch.float8_e5m2, _PACKED_FP4}


@dataclass(frozen=True)
class Fp8Tensor(DequantisedTensor):
    """FP8 numbers (…, rows, columns) times their block's scale. blocks: rows and columns of a block as the
    configuration says; None: one block is the whole matrix. stated: whether it says so; otherwise the blocks
    are transformers' default, or equal ones of another size.
    """

    blocks: Block | None
    stated: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        packed = self.parts["weight"]
        return packed.shape if packed.dtype != _PACKED_FP4 else (*packed.shape[:-1], 2 * packed.shape[-1])

    def read_into(self, out: Tensor) -> None:
        """See Source: products in float32, as transformers computes them, then rounded once."""
        self._require_shape(out)
        scale = as_numbers(read_part(self.parts["scale"]))
        self._fill(out, self.parts["weight"], scale.reshape(self._grid))

    @cached_property
    def block(self) -> Block:
        """Rows and columns that share a scale. Raises NotAModel where the scales are not those that the
        configuration states.
        """
        (down, across), (rows, columns) = self._grid[-2:], self.shape[-2:]
        blocks = [(rows, columns) if self.blocks is None else self.blocks]
        if self.parts["weight"].dtype == _PACKED_FP4:
            blocks.append(_FP4_BLOCK)
        return find_block(self.key, (rows, columns), (down, across), blocks, others=not self.stated)

    @property
    def _grid(self) -> tuple[int, ...]:
        """The scale's shape as (…, rows of blocks, columns of blocks)."""
        leading, scale = self.shape[:-2], tuple(self.parts["scale"].shape)
        if len(self.shape) < 2:
            raise NotAModel(f"{self.key} is a vector of FP8 numbers, for which no block is defined{AGAIN}")
        if len(scale) == len(self.shape) and all(n in (1, of) for n, of in zip(scale, leading, strict=False)):
            return scale
        if prod(scale) in (1, prod(leading)):
            return (*((1,) * len(leading) if prod(scale) == 1 else leading), 1, 1)
        raise NotAModel(
            f"{self.key} is {list(self.shape)}, and its scale {list(scale)} fits no blocks{AGAIN}"
        )

    def _fill(self, out: Tensor, packed: Part, scale: Tensor) -> None:
        if out.dim() > 2:
            for index in range(len(out)):
                row = packed.rows(range(index, index + 1))
                self._fill(out[index], row.reshape(packed.shape[1:]), scale[index if len(scale) > 1 else 0])
            return
        for rows in split_rows(out.shape[0], out.shape[1]):
            numbers = read_part(packed.rows(rows))
            numbers = unpack_fp4(numbers) if numbers.dtype == _PACKED_FP4 else numbers
            of_rows = scale[torch.arange(rows.start, rows.stop) // self.block[0]]
            out[rows.start : rows.stop].copy_(_scaled(numbers, of_rows, self.block[1]))


def as_numbers(scale: Tensor) -> Tensor:
    """Scales as float32; bytes are exponents of 2 (E8M0)."""
    return (scale.float() - 127).exp2() if scale.dtype == torch.uint8 else scale.float()


def unpack_fp4(packed: Tensor) -> Tensor:
    """The numbers (…, 2 n) float32 of bytes (…, n) that hold two each, the first in the lower bits."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    unpacking: Any = Fp8Dequantize(None)
    found: Tensor = unpacking._unpack_fp4(packed)
    return found


def _scaled(numbers: Tensor, scale: Tensor, width: int) -> Tensor:
    """Numbers (rows, columns) times their row's scales (rows, columns of blocks), in float32."""
    from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

    found: Tensor = _dequantize_fp8_weight(numbers, scale, [1, width], torch.float32)
    return found


def make_fp8(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> Fp8Tensor:
    """The weight of some parts. Raises NotAModel for one that is not FP8, or whose scales contradict the
    configuration.
    """
    dtype = parts["weight"].dtype
    if dtype not in _WEIGHTS:
        raise NotAModel(
            f"{key} is stored as {str(dtype).removeprefix('torch.')} beside a scale of FP8 weights; only FP8 "
            f"has one{AGAIN}"
        )
    found = Fp8Tensor(key, parts, read_blocks(settings), _SIZE in settings)
    _ = found.block  # before anything is read
    return found


def read_blocks(settings: Mapping[str, Any]) -> Block | None:
    """The block's size that a configuration gives, None for one scale per tensor."""
    size = settings.get(_SIZE, (128, 128))
    if size is None:
        return None
    if not (
        isinstance(size, (list, tuple)) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)
    ):
        raise NotAModel(f"config.json gives FP8 weights the block size {size}, not two whole numbers{AGAIN}")
    return size[0], size[1]


def describe_fp8(settings: Mapping[str, Any]) -> str:
    """Such as "FP8 in blocks of 128 × 128"."""
    blocks = read_blocks(settings)
    if _SIZE not in settings:
        return "FP8 in blocks whose size its config.json leaves open"
    return "FP8 with a scale per tensor" if blocks is None else f"FP8 in blocks of {blocks[0]} × {blocks[1]}"
