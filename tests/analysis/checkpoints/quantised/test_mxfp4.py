"""MXFP4 weights against transformers' own function, a piece at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from analysis.checkpoints.quantised.formats import find_quantisation
from analysis.checkpoints.quantised.parts import DequantisedTensor
from analysis.checkpoints.stored import HeldTensor
from analysis.errors import NotAModel

EXPERTS, OUTPUTS, BLOCKS = 3, 10, 2


def bytes_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def packed(blocks: Tensor, scales: Tensor) -> DequantisedTensor:
    held = {"blocks": HeldTensor(blocks), "scales": HeldTensor(scales)}
    return find_quantisation("here", {"quant_method": "mxfp4"}).make("experts.down_proj", held)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_are_what_transformers_computes(dtype: torch.dtype) -> None:
    blocks = bytes_of(EXPERTS, OUTPUTS, BLOCKS, 16)
    scales = bytes_of(EXPERTS, OUTPUTS, BLOCKS) // 8 + 112  # of the powers that weights have
    tensor = packed(blocks, scales)
    assert tensor.shape == (EXPERTS, BLOCKS * 32, OUTPUTS)
    out = torch.full(tensor.shape, float("nan"), dtype=dtype)
    tensor.read_into(out)
    assert torch.equal(out, convert_moe_packed_tensors(blocks, scales, dtype=dtype))


def test_blocks_and_scales_that_do_not_belong_together_are_refused() -> None:
    for shape in ((EXPERTS, OUTPUTS, BLOCKS, 8), (EXPERTS, OUTPUTS, BLOCKS + 1, 16), (OUTPUTS, BLOCKS, 16)):
        with pytest.raises(NotAModel, match=r"experts\.down_proj has blocks .* not those of MXFP4"):
            packed(bytes_of(*shape), bytes_of(EXPERTS, OUTPUTS, BLOCKS))
