"""FP8 weights: blocks of every shape, scales of every dtype, packed FP4, against transformers' own code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

from analysis.checkpoints.headers import read_header
from analysis.checkpoints.quantised.formats import Quantisation, find_quantisation
from analysis.checkpoints.stored import HeldTensor
from analysis.errors import NotAModel

FP8 = torch.float8_e4m3fn


def quantisation(**settings: Any) -> Quantisation:
    return find_quantisation("here", {"quant_method": "fp8", "weight_block_size": [16, 16]} | settings)


def dequantised(weight: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32, **settings: Any) -> Tensor:
    tensor = quantisation(**settings).make("w", {"weight": HeldTensor(weight), "scale": HeldTensor(scale)})
    out = torch.full(tensor.shape, float("nan"), dtype=dtype)
    tensor.read_into(out)
    return out


def theirs(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    dequantising: Any = Fp8Dequantize(None)
    found: Tensor = dequantising._dequantize_one(weight, scale, dtype)
    return found


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((32, 48), (2, 3)),
        ((48, 16), (3, 1)),
        ((32, 48), (32, 1)),
        ((32, 48), (1, 1)),
        ((3, 32, 48), (3, 2, 3)),
    ],
)
def test_whole_blocks_are_what_transformers_computes(
    shape: tuple[int, ...], grid: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight, scale = numbers(*shape).to(FP8), numbers(*grid).abs()
    for stored in (scale, scale.bfloat16(), scale.to(torch.float8_e8m0fnu)):
        block = [shape[-2] // grid[-2], shape[-1] // grid[-1]]
        found = dequantised(weight, stored, dtype, weight_block_size=block)
        assert torch.equal(found, theirs(weight, stored, dtype))


@pytest.mark.parametrize("scale", [torch.tensor(0.3), torch.tensor([0.3]), torch.tensor([[0.3]])])
def test_one_scale_is_for_the_whole_tensor(scale: Tensor) -> None:
    weight = numbers(32, 48).to(FP8)
    assert torch.equal(dequantised(weight, scale, weight_block_size=None), weight.float() * 0.3)


def test_one_scale_per_expert() -> None:
    weight, scale = numbers(3, 8, 16).to(FP8), torch.tensor([0.5, 1.5, 2.5])
    expected = weight.float() * scale[:, None, None]
    assert torch.equal(dequantised(weight, scale, weight_block_size=None), expected)
    assert torch.equal(theirs(weight, scale, torch.float32), expected)


def test_exponents_are_stored_as_bytes_too() -> None:
    weight, scale = numbers(32, 48).to(FP8), torch.arange(120, 126, dtype=torch.uint8).view(2, 3)
    assert torch.equal(dequantised(weight, scale), theirs(weight, scale, torch.float32))


def test_a_last_block_may_be_smaller_as_deepseek_has_it() -> None:
    weight, scale = numbers(40, 24).to(FP8), numbers(3, 2).abs()
    blocks = scale.repeat_interleave(16, 0)[:40].repeat_interleave(16, 1)[:, :24]
    assert torch.equal(dequantised(weight, scale), weight.float() * blocks)


def test_experts_of_packed_fp4_are_unpacked() -> None:
    packed = torch.randint(-128, 128, (32, 24), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    scale = numbers(2, 3).abs().to(torch.float8_e8m0fnu)
    found = dequantised(packed, scale)
    assert found.shape == (32, 48)
    assert torch.equal(found, theirs(packed, scale, torch.float32))


@pytest.mark.parametrize(
    ("weight", "scale", "says"),
    [
        (torch.zeros(32, 48).to(FP8), torch.ones(3, 2), r"\[3, 2\] scales, which do not follow .* 16 × 16"),
        (torch.zeros(64, 128).to(FP8), torch.ones(2, 8), r"\[2, 8\] scales, which do not follow"),
        (torch.zeros(3, 32, 48).to(FP8), torch.ones(2, 2, 3), r"its scale \[2, 2, 3\] fits no blocks"),
        (torch.zeros(32, 48).to(FP8), torch.ones(2, 3, 4), r"its scale \[2, 3, 4\] fits no blocks"),
        (torch.zeros(32).to(FP8), torch.ones(2), "a vector of FP8 numbers"),
        (torch.zeros(32, 48), torch.ones(2, 3), "w is stored as float32 beside a scale"),
    ],
)
def test_scales_that_fit_no_blocks_are_refused(weight: Tensor, scale: Tensor, says: str) -> None:
    parts = {"weight": HeldTensor(weight), "scale": HeldTensor(scale)}
    with pytest.raises(NotAModel, match=says):
        quantisation().make("w", parts)


def test_blocks_are_those_that_the_configuration_states() -> None:
    weight, scale = numbers(64, 64).to(FP8), numbers(4, 4).abs()
    with pytest.raises(NotAModel, match=r"\[4, 4\] scales, which do not follow from the blocks of 32 × 32"):
        dequantised(weight, scale, weight_block_size=[32, 32])
    with pytest.raises(NotAModel, match="do not follow from the blocks of 64 × 64"):  # one per tensor
        dequantised(weight, scale, weight_block_size=None)


def test_a_configuration_that_leaves_the_blocks_open_takes_equal_ones_and_says_no_size() -> None:
    weight, scale = numbers(64, 64).to(FP8), numbers(4, 4).abs()
    of = find_quantisation("here", {"quant_method": "fp8"})
    out = torch.empty(64, 64)
    of.make("w", {"weight": HeldTensor(weight), "scale": HeldTensor(scale)}).read_into(out)
    assert torch.equal(out, theirs(weight, scale, torch.float32))
    assert of.describe() == "dequantised from FP8 in blocks whose size its config.json leaves open"
    with pytest.raises(NotAModel, match=r"\[3, 4\] scales do not divide into blocks"):
        of.make("w", {"weight": HeldTensor(weight), "scale": HeldTensor(torch.ones(3, 4))})


def test_packed_fp4_has_blocks_of_32_inputs_whatever_those_of_fp8_are() -> None:
    packed = torch.randint(-128, 128, (32, 32), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    scale = numbers(32, 2).abs()
    assert torch.equal(dequantised(packed, scale), theirs(packed, scale, torch.float32))


def test_pieces_are_read_from_the_file(tmp_path: Path) -> None:
    weight, scale = numbers(32, 48).to(FP8), numbers(2, 3).abs()
    stored = {
        "other": torch.ones(7),
        "w.weight": weight,
        "w.weight_scale_inv": scale,
        "w.bias": torch.ones(3),
    }
    save_file(stored, tmp_path / "a.safetensors")
    header, of = read_header(tmp_path / "a.safetensors"), quantisation()
    groups: Mapping[str, Mapping[str, str]] = of.group(header)
    assert groups == {"w.weight": {"weight": "w.weight", "scale": "w.weight_scale_inv"}}
    tensor = of.make("w.weight", {role: header[key] for role, key in groups["w.weight"].items()})
    out = torch.empty(48, 32).T  # of other strides than the file's
    tensor.read_into(out)
    assert torch.equal(out, theirs(weight, scale, torch.float32))
    assert (tensor.path, tensor.stored_bytes) == (tmp_path / "a.safetensors", 32 * 48 + 4 * 6)


@pytest.mark.parametrize(
    ("keys", "grouped"),
    [
        (["a.weight", "a.scale"], {"a.weight"}),
        (["a.weight", "a.qscale_weight", "a.qscale_act"], {"a.weight"}),
        (["a.weight", "a.activation_scale"], set()),
        (["norm.scale"], set()),
        (["experts.gate_up_proj", "experts.gate_up_proj_scale_inv"], {"experts.gate_up_proj"}),
    ],
)
def test_a_scale_belongs_to_its_weight_by_name(keys: list[str], grouped: set[str]) -> None:
    assert set(quantisation().group(keys)) == grouped
