"""Which tensors make a quantised weight: a part that is missing is named, and so are settings of no form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.checkpoints.quantised.formats import find_quantisation
from analysis.checkpoints.quantised.weights import find_stated_quantisation, list_roles
from analysis.errors import NotAModel

PARTS = {
    "gptq": ("qweight", "qzeros", "scales", "g_idx"),
    "awq": ("qweight", "qzeros", "scales"),
    "mxfp4": ("proj_blocks", "proj_scales"),
    "bitsandbytes": ("weight", "weight.absmax", "weight.quant_map", "weight.quant_state.bitsandbytes__nf4"),
    "compressed-tensors": ("weight_packed", "weight_scale", "weight_shape"),
}
SETTINGS = {"format": "pack-quantized", "config_groups": {"a": {"weights": {"num_bits": 4}}}}


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("gptq", "scales"),
        ("gptq", "qzeros"),
        ("awq", "qweight"),
        ("mxfp4", "proj_scales"),
        ("bitsandbytes", "weight.absmax"),
        ("bitsandbytes", "weight"),
        ("compressed-tensors", "weight_scale"),
    ],
)
def test_a_part_that_is_missing_is_named(method: str, missing: str) -> None:
    settings = SETTINGS if method == "compressed-tensors" else {}
    of = find_quantisation("here", {"quant_method": method} | settings)
    keys = [f"a.{name}" for name in PARTS[method]]
    assert list(list_roles(keys, of)) != keys
    keys.remove(f"a.{missing}")
    with pytest.raises(NotAModel, match=rf"is not whole: a\.{missing} is missing beside a\."):
        list_roles(keys, of)


def test_a_tensor_named_like_a_scale_is_no_part() -> None:
    of = find_quantisation("here", {"quant_method": "fp8"})
    assert list_roles(["norm.scale"], of) == {"norm.scale": {"": "norm.scale"}}


def test_the_method_is_known_in_capitals_too() -> None:
    settings = {"quant_method": "GPTQ", "bits": 4, "checkpoint_format": "marlin"}
    with pytest.raises(NotAModel, match="gptq in the layout marlin"):
        find_quantisation("here", settings)
    assert find_quantisation("here", settings | {"checkpoint_format": "gptq"}).describe().endswith("of 128")


@pytest.mark.parametrize("value", [[1], "gptq", 4])
def test_settings_that_are_no_object_are_refused_by_their_place(value: Any) -> None:
    with pytest.raises(NotAModel, match=r"text_config\.quantization_config in .* is .*, not an object that"):
        find_stated_quantisation(Path("here"), {"text_config": {"quantization_config": value}})
    assert find_stated_quantisation(Path("here"), {"quantization_config": None}) is None
