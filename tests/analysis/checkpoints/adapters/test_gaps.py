"""An adapter that lacks a layer of what its settings name is refused; one that was made so is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.checkpoints.adapters.files import LoraSettings
from analysis.checkpoints.adapters.gaps import is_targeted
from analysis.errors import NotAModel
from analysis.opening.models import ModelRef, load_model
from tests.analysis.checkpoints.adapters.adapters_made import logits, made_adapter, made_base, peft_logits

DOWN = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], r".*\.(q_proj|down_proj)"])
def test_a_layer_that_is_missing_is_named(targets: Any, tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=targets)
    tensors = load_file(adapter / "adapter_model.safetensors")
    left = {key: value for key, value in tensors.items() if DOWN not in key}
    assert len(left) == len(tensors) - 2
    save_file(left, adapter / "adapter_model.safetensors", {"format": "pt"})
    for streamed in (False, True):
        with pytest.raises(NotAModel, match=rf"has no matrices for {DOWN}\.weight, .*target_modules"):
            load_model(ModelRef(f"{base}+{adapter}", streamed=streamed))


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_to_transform": [1]},
        {"layers_to_transform": 1},
        {"exclude_modules": ["layers.0.self_attn.q_proj"]},
        {"exclude_modules": r".*\.0\..*"},
    ],
)
def test_layers_that_the_settings_leave_out_are_not_missed(settings: dict[str, Any], tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"], **settings)
    found = logits(load_model(ModelRef(f"{base}+{adapter}")).model)
    torch.testing.assert_close(found, peft_logits(base, adapter), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "targeted"),
    [
        ({"targets": ("down_proj",)}, True),
        ({"targets": ("wn_proj",)}, False),
        ({"targets": (DOWN,)}, True),
        ({"targets": "all-linear"}, False),
        ({"targets": ("down_proj",), "layers": (1,)}, False),
        ({"targets": ("down_proj",), "layers": (0,)}, True),
        ({"targets": ("down_proj",), "excluded": "model.*"}, False),
    ],
)
def test_a_module_is_named_by_its_end_or_a_pattern(settings: dict[str, Any], targeted: bool) -> None:
    assert is_targeted(LoraSettings(4, 4.0, **settings), DOWN) == targeted


def test_a_base_that_was_given_is_not_asked_for_again(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    tensors = load_file(adapter / "adapter_model.safetensors")
    extra = {"base_model.model.extra": torch.ones(1)}
    save_file(tensors | extra, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(NotAModel, match="names this model as its base, so its") as raised:
        load_model(ModelRef(f"{base}+{adapter}"))
    assert "give that as its base" not in str(raised.value)
