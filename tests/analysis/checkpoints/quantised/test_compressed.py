"""Weights of compressed-tensors against the library's own decompression."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from torch import Tensor

from analysis.checkpoints.quantised.formats import Quantisation, find_quantisation
from analysis.checkpoints.stored import HeldTensor
from analysis.errors import NotAModel
from tests.analysis.checkpoints.quantised.quantised_made import compress, compressed_settings

INTEGERS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}
FLOATS = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "int4 in groups": ("pack-quantized", INTEGERS),
    "int4 in groups with zeros": ("pack-quantized", INTEGERS | {"symmetric": False}),
    "int3 per row": ("pack-quantized", INTEGERS | {"num_bits": 3, "strategy": "channel", "group_size": None}),
    "int8 per row": ("int-quantized", FLOATS | {"type": "int"}),
    "int8 per row with zeros": ("int-quantized", FLOATS | {"type": "int", "symmetric": False}),
    "FP8 per row": ("float-quantized", FLOATS),
    "FP8 per tensor": ("float-quantized", FLOATS | {"strategy": "tensor"}),
    "FP8 in blocks": ("float-quantized", FLOATS | {"strategy": "block", "block_structure": [16, 16]}),
    "MXFP8": ("mxfp8-quantized", FLOATS | {"strategy": "group", "group_size": 32}),
    "MXFP4": ("mxfp4-pack-quantized", INTEGERS | {"type": "float"}),
    "NVFP4": (
        "nvfp4-pack-quantized",
        INTEGERS | {"type": "float", "strategy": "tensor_group", "group_size": 16},
    ),
}
ROLES = {
    "weight": "weight",
    "weight_packed": "packed",
    "weight_scale": "scale",
    "weight_zero_point": "zeros",
    "weight_global_scale": "global",
    "weight_shape": "shape",
}


def dequantised(
    of: Quantisation, saved: dict[str, Tensor], key: str = "w", dtype: torch.dtype = torch.float32
) -> Tensor:
    parts = {ROLES[name]: HeldTensor(part) for name, part in saved.items()}
    tensor = of.make(key, parts)
    out = torch.full(tensor.shape, float("nan"), dtype=dtype)
    tensor.read_into(out)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SCHEMES)
def test_numbers_are_what_the_library_decompresses(name: str, dtype: torch.dtype) -> None:
    layout, weights = SCHEMES[name]
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(0)).to(dtype)
    saved, settings = compress(weight, layout, weights), compressed_settings(layout, weights)
    of = find_quantisation("here", settings)
    scheme = QuantizationScheme(**settings["config_groups"]["group_0"])
    library = BaseCompressor.get_value_from_registry(layout)
    expected = library.decompress(dict(saved), scheme)["weight"]
    assert torch.equal(dequantised(of, saved, dtype=dtype), expected.to(dtype))
    assert (expected.float() - weight.float()).abs().mean() < 0.3  # it does quantise


def test_fp8_experts_are_taken_in_float32_as_transformers_does() -> None:
    layout, weights = SCHEMES["FP8 per row"]
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(0)).bfloat16()
    saved, of = compress(weight, layout, weights), find_quantisation("", compressed_settings(layout, weights))
    found = dequantised(of, saved, "model.layers.0.mlp.experts.3.up_proj.weight")
    assert torch.equal(found, saved["weight"].float() * saved["weight_scale"].float())
    assert not torch.equal(found, dequantised(of, saved))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (
            {"config_groups": {"group_0": {"weights": INTEGERS, "format": "marlin-24"}}},
            "in the format marlin-24 of compressed-tensors",
        ),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "in the sparse format sparse-24-bitmask"),
        ({"config_groups": {}}, "in the format pack-quantized of compressed-tensors"),
    ],
)
def test_other_formats_of_the_library_are_refused_by_name(entries: dict[str, Any], says: str) -> None:
    with pytest.raises(NotAModel, match=says):
        find_quantisation("here", compressed_settings("pack-quantized", INTEGERS) | entries)


def test_what_is_no_such_weight_is_refused() -> None:
    of = find_quantisation("here", compressed_settings("pack-quantized", INTEGERS))
    scale = {"scale": HeldTensor(torch.ones(4, 1))}
    with pytest.raises(NotAModel, match=r"w is stored as float16 of shape \[4, 8\]"):
        of.make("w", scale | {"weight": HeldTensor(torch.zeros(4, 8).half())})
    ordered = scale | {"weight": HeldTensor(torch.zeros(4, 8, dtype=torch.int8)), "order": scale["scale"]}
    with pytest.raises(NotAModel, match=r"inputs in groups of their own order \(weight_g_idx\)"):
        of.make("w", ordered).read_into(torch.empty(4, 8))
    with pytest.raises(NotAModel, match="gives weights 9 bits, not 1 to 8"):
        find_quantisation("", compressed_settings("pack-quantized", INTEGERS | {"num_bits": 9})).describe()


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("int8 per row", (1, 96)),
        ("int8 per row", (48, 3)),
        ("FP8 per tensor", (48, 1)),
        ("FP8 in blocks", (6, 3)),
        ("FP8 in blocks", (1, 1)),
        ("MXFP8", (3, 48)),
    ],
)
def test_scales_that_do_not_follow_from_the_scheme_are_refused(name: str, grid: tuple[int, int]) -> None:
    layout, weights = SCHEMES[name]
    saved = compress(torch.ones(48, 96), layout, weights)
    of = find_quantisation("here", compressed_settings(layout, weights))
    changed = {"weight": saved["weight"], "weight_scale": torch.ones(grid).to(saved["weight_scale"].dtype)}
    with pytest.raises(NotAModel, match=r"scales, which do not follow from the blocks of"):
        dequantised(of, changed)


def test_a_scheme_of_no_known_kind_leaves_the_blocks_open() -> None:
    layout, weights = SCHEMES["int8 per row"]
    settings = compressed_settings(layout, weights)
    settings["config_groups"]["group_0"]["weights"]["strategy"] = "of its own"
    saved = compress(torch.ones(48, 96), layout, weights)
    assert dequantised(find_quantisation("here", settings), saved).shape == (48, 96)


def test_scales_of_activations_belong_to_no_weight() -> None:
    of = find_quantisation("here", compressed_settings("int-quantized", INTEGERS))
    assert of.is_of_activations("a.q_proj.input_scale")
    assert of.is_of_activations("a.self_attn.k_scale")
    assert not of.is_of_activations("a.q_proj.weight_scale")
    assert of.group(["a.weight_scale", "b.weight", "b.weight_scale"]).keys() == {"b.weight"}
