"""MXFP4 weights of stacked experts: FP4 numbers in blocks of 32 with a power of 2 each, as in gpt-oss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from analysis.checkpoints.quantised.parts import DequantisedTensor, Part, read_part, split_rows
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

_BYTES = 16
"""Bytes of a block of 32 numbers."""


class Mxfp4Tensor(DequantisedTensor):
    """Stored blocks (experts, outputs, blocks, 16); as a parameter (experts, inputs, outputs)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        experts, outputs, blocks, _ = self.parts["blocks"].shape
        return experts, blocks * 2 * _BYTES, outputs

    def read_into(self, out: Tensor) -> None:
        """See Source: by transformers' own function, some outputs of an expert at a time."""
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        self._require_shape(out)
        blocks, scales = self.parts["blocks"], self.parts["scales"]
        for expert in range(len(out)):
            one = range(expert, expert + 1)
            of_expert = blocks.rows(one).reshape(blocks.shape[1:])
            exponents = scales.rows(one).reshape(scales.shape[1:])
            for rows in split_rows(out.shape[2], out.shape[1]):
                packed, powers = (read_part(part.rows(rows)) for part in (of_expert, exponents))
                numbers = convert_moe_packed_tensors(packed[None], powers[None], dtype=out.dtype)
                out[expert, :, rows.start : rows.stop].copy_(numbers[0])


def make_mxfp4(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> Mxfp4Tensor:
    """The weight of blocks and scales. Raises NotAModel if they do not belong together."""
    blocks, scales = parts["blocks"].shape, parts["scales"].shape
    if len(blocks) != 4 or blocks[-1] != _BYTES or blocks[:-1] != scales:
        raise NotAModel(
            f"{key} has blocks {list(blocks)} and scales {list(scales)}, which are not those of MXFP4{AGAIN}"
        )
    return Mxfp4Tensor(key, parts)
