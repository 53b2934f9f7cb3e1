"""GPTQ and AWQ weights: integers written as one long number in base 2, zeros and groups of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.checkpoints.quantised.formats import find_quantisation
from analysis.checkpoints.quantised.packed_integers import unpack_integers
from analysis.checkpoints.stored import HeldTensor
from analysis.errors import NotAModel
from tests.analysis.checkpoints.quantised.quantised_made import pack, to_awq, to_gptq

INPUTS, OUTPUTS = 64, 32


def dequantised(parts: Mapping[str, Tensor], method: str, **settings: Any) -> Tensor:
    of = find_quantisation("here", {"quant_method": method, "group_size": 32} | settings)
    held = {role.removeprefix("a_proj."): HeldTensor(part) for role, part in parts.items()}
    tensor = of.make("a_proj.weight", held)
    out = torch.full(tensor.shape, float("nan"), dtype=torch.float64)
    tensor.read_into(out)
    return out


def weight() -> Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(0))


def gptq(bits: int = 4, group: int = 32) -> dict[str, Tensor]:
    found = to_gptq(group, bits)("a_proj.weight", weight())
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_packed_integers_are_unpacked(bits: int) -> None:
    values = torch.randint(0, 2**bits, (3, 64), generator=torch.Generator().manual_seed(bits))
    assert unpack_integers(pack(values, bits), bits).tolist() == values.tolist()
    assert unpack_integers(pack(values, bits), bits, 50).tolist() == values[:, :50].tolist()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_gptq_of_every_width_is_near_what_was_quantised(bits: int) -> None:
    parts = gptq(bits)
    found = dequantised(parts, "gptq", bits=bits)
    step = parts["a_proj.scales"].double().T.repeat_interleave(32, 1)
    assert ((found - weight()).abs() <= 0.51 * step + 1e-3).all()


def test_numbers_are_exact() -> None:
    parts = {
        "qweight": pack(torch.tensor([[3] * 8] * 8), 4).T,
        "qzeros": pack(torch.tensor([[5] * 8]), 4),
        "scales": torch.full((1, 8), 0.3, dtype=torch.float16),
    }
    exact = float(parts["scales"][0, 0])
    assert dequantised(parts, "gptq", group_size=-1).unique().tolist() == [(3 - 6) * exact]
    second = dequantised(parts, "gptq", group_size=-1, checkpoint_format="gptq_v2")
    assert second.unique().tolist() == [(3 - 5) * exact]
    largest = parts | {"qzeros": pack(torch.tensor([[15] * 8]), 4)}  # 0 − 1 in four bits
    assert dequantised(largest, "gptq", group_size=-1).unique().tolist() == [3 * exact]


def test_the_order_of_inputs_by_activation_is_followed() -> None:
    parts = gptq()
    order = torch.randperm(INPUTS, generator=torch.Generator().manual_seed(1))
    plain = dequantised(parts, "gptq")
    integers = unpack_integers(parts["a_proj.qweight"].T.contiguous(), 4)
    moved = parts | {
        "a_proj.qweight": pack(integers[:, order], 4).T,
        "a_proj.g_idx": parts["a_proj.g_idx"][order],
    }
    assert torch.equal(dequantised(moved, "gptq", desc_act=True), plain[:, order])
    del parts["a_proj.g_idx"]
    assert torch.equal(dequantised(parts, "gptq"), plain)


def test_awq_and_gptq_of_the_same_integers_are_the_same_numbers() -> None:
    awq = to_awq(32)("a_proj.weight", weight())
    assert awq is not None
    assert torch.equal(dequantised(awq, "awq"), dequantised(gptq(), "gptq"))


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        ("gptq", {"g_idx": torch.full((INPUTS,), 2, dtype=torch.int32)}, "group indices .* 2 groups"),
        ("gptq", {"scales": torch.ones(2, 24)}, "has 4 words of zeros for 24 outputs"),
        ("gptq", {"qzeros": torch.zeros(3, 4, dtype=torch.int32)}, r"zeros \[3, 4\], which \[2, 4\]"),
        ("gptq", {"qweight": torch.zeros(8, OUTPUTS)}, "no words of 32 bits"),
        ("awq", {"scales": torch.ones(2, 24)}, "4 words an input for 24 outputs"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(
    method: str, change: dict[str, Tensor], says: str
) -> None:
    made = to_awq(32)("a_proj.weight", weight()) if method == "awq" else gptq()
    assert made is not None
    parts = {key.removeprefix("a_proj."): part for key, part in made.items()} | change
    with pytest.raises(NotAModel, match=says):
        dequantised(parts, method)


def test_a_group_that_is_not_the_configurations_is_refused() -> None:
    parts = gptq()
    with pytest.raises(NotAModel, match=r"64 inputs in 2 groups, but by its config\.json a group has 16"):
        dequantised(parts, "gptq", group_size=16)
    with pytest.raises(NotAModel, match="groups of 'x' inputs"):
        dequantised(parts, "gptq", group_size="x")


def test_bits_that_are_not_the_configurations_are_refused() -> None:
    with pytest.raises(NotAModel, match=r"a_proj.weight has 4 bits a number .* by its config\.json 8"):
        dequantised(gptq(), "gptq", bits=8)
    for bits in ("4", 5):
        with pytest.raises(NotAModel, match=f"GPTQ weights {bits!r} bits, not 2 or 3 or 4 or 8"):
            dequantised(gptq(), "gptq", bits=bits)


def test_layers_with_bits_and_groups_of_their_own_are_read_and_said() -> None:
    settings = {"bits": 8, "group_size": 16, "dynamic": {"+:a": {"bits": 4, "group_size": 32}, "-:b": {}}}
    assert torch.equal(dequantised(gptq(), "gptq", **settings), dequantised(gptq(), "gptq"))
    said = find_quantisation("here", {"quant_method": "gptq"} | settings).describe()
    assert said == "dequantised from GPTQ with 8 or 4 bits in groups of 16 or 32"
    assert "bits" not in find_quantisation("here", {"quant_method": "gptq"}).describe()


def test_an_order_by_activation_without_its_indices_is_refused() -> None:
    parts = gptq()
    del parts["a_proj.g_idx"]
    with pytest.raises(NotAModel, match=r"has no g_idx, .* \(desc_act\)"):
        dequantised(parts, "gptq", desc_act=True)
