"""bitsandbytes weights against its own code, and where its CPU code is wrong, against the definition."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import torch
from bitsandbytes import functional
from torch import Tensor

from analysis.checkpoints.quantised.formats import find_quantisation
from analysis.checkpoints.stored import HeldTensor
from analysis.errors import NotAModel

ROLES = {"quant_state.bitsandbytes__nf4": "state", "quant_state.bitsandbytes__fp4": "state"}


def quantised(
    weight: Tensor, kind: str = "nf4", nested: bool = False, storage: torch.dtype = torch.uint8
) -> tuple[dict[str, Tensor], functional.QuantState]:
    packed, state = functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=nested, quant_type=kind, quant_storage=storage
    )
    saved = state.as_dict(packed=True)
    return {"weight": packed} | {ROLES.get(name, name): part for name, part in saved.items()}, state


def dequantised(
    parts: Mapping[str, Tensor], bits: int = 4, dtype: torch.dtype = torch.float32, **settings: object
) -> Tensor:
    of = find_quantisation("here", {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True} | settings)
    tensor = of.make("w", {role: HeldTensor(part) for role, part in parts.items()})
    out = torch.full(tensor.shape, float("nan"), dtype=dtype)
    tensor.read_into(out)
    return out


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("storage", [torch.uint8, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_are_what_bitsandbytes_computes(kind: str, nested: bool, storage: torch.dtype) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        parts, state = quantised(numbers(48, 128).to(dtype), kind, nested, storage)
        found = dequantised(parts, dtype=dtype)
        assert torch.equal(found, functional.dequantize_4bit(parts["weight"], state))


def test_a_block_may_go_on_in_the_next_row() -> None:
    """bitsandbytes' code for the CPU starts a block with every row, and errs here (0.50.2)."""
    weight = numbers(32, 96)
    parts, _ = quantised(weight)
    found = dequantised(parts)
    blocks, table = weight.reshape(-1, 64), parts["quant_map"]
    largest = blocks.abs().amax(1, keepdim=True)
    nearest = (blocks / largest)[..., None].sub(table).abs().argmin(-1)
    torch.testing.assert_close(found, (table[nearest] * largest).view(32, 96), rtol=1e-6, atol=1e-6)


def test_what_is_stored_of_a_quantisation_must_fit() -> None:
    parts, _ = quantised(numbers(48, 128))
    said = json.loads(bytes(parts["state"].tolist()))
    for change in ({"shape": [48, 64]}, {"blocksize": 0}, {"dtype": "int3"}, {"shape": "x"}):
        wrong = torch.tensor(list(json.dumps(said | change).encode()), dtype=torch.uint8)
        with pytest.raises(NotAModel, match=r"quantisation state of w cannot|w is \[48, 64\], but 6144"):
            dequantised(parts | {"state": wrong})


@pytest.mark.parametrize("role", ["absmax", "quant_map", "nested_absmax", "nested_quant_map"])
def test_scales_and_tables_that_are_too_short_are_refused(role: str) -> None:
    parts, _ = quantised(numbers(256, 128), nested=True)
    needed = len(parts[role])
    with pytest.raises(NotAModel, match=rf"{role} of shape \[{needed - 1}\], and .* need \[{needed}\]"):
        dequantised(parts | {role: parts[role][:-1]})


def test_a_kind_that_is_not_the_configurations_is_refused() -> None:
    parts, _ = quantised(numbers(48, 128))
    with pytest.raises(NotAModel, match=r"w is nf4, and by its config\.json"):
        dequantised(parts, bnb_4bit_quant_type="fp4")
    assert torch.equal(dequantised(parts, bnb_4bit_quant_type="nf4"), dequantised(parts))
    open_kind = find_quantisation("here", {"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert open_kind.describe() == "dequantised from bitsandbytes of 4 bits"


def test_nested_scales_must_be_whole() -> None:
    parts, _ = quantised(numbers(48, 128), nested=True)
    said = json.loads(bytes(parts["state"].tolist()))
    for change in ({"nested_blocksize": 0}, {"nested_offset": "x"}):
        wrong = torch.tensor(list(json.dumps(said | change).encode()), dtype=torch.uint8)
        with pytest.raises(NotAModel, match="no block size and offset of its nested scales"):
            dequantised(parts | {"state": wrong})
    del parts["nested_quant_map"]
    with pytest.raises(NotAModel, match="one of nested_absmax and nested_quant_map"):
        dequantised(parts)


def test_eight_bits_are_what_bitsandbytes_computes() -> None:
    packed, largest, _ = functional.int8_vectorwise_quant(numbers(48, 96).half())
    parts = {"weight": packed, "largest": largest, "layout": torch.tensor(0, dtype=torch.uint8)}
    expected = functional.int8_vectorwise_dequant(packed, largest)
    assert torch.equal(dequantised(parts, 8), expected)
    assert torch.equal(dequantised(parts, 8, torch.bfloat16), expected.bfloat16())
    with pytest.raises(NotAModel, match="w is stored in a layout for one kind of GPU"):
        dequantised(parts | {"layout": torch.tensor(1, dtype=torch.uint8)}, 8)
    with pytest.raises(NotAModel, match=r"w is \[48, 96\] with \[3\] scales"):
        dequantised(parts | {"largest": torch.ones(3)}, 8)
