"""Quantised checkpoints opened: in memory and from disk they are what transformers loads, dequantised."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.checkpoints.fingerprint import fingerprint
from analysis.checkpoints.hub import hub_model
from analysis.checkpoints.reading import describe_format
from analysis.errors import ModelError, NotAModel
from analysis.opening.fetching import fetching
from analysis.opening.memory import check_memory_at_hub, estimate_folder
from analysis.opening.models import ModelRef, load_model
from tests.analysis.checkpoints.quantised.quantised_made import (
    SAID,
    WRITERS,
    fp8_settings,
    load_plain,
    make_llama,
    to_fp8,
    write_gpt2,
    write_quantised,
)
from tests.standin_hub import StandinHub

IDS = torch.tensor([[1, 20, 30, 40, 50, 60]])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each checkpoint, written once."""
    return cache(lambda name: WRITERS[name](tmp_path_factory.mktemp("quantised")))


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_weights_are_from_is_said(written: Callable[[str], Path], name: str) -> None:
    assert describe_format(written(name)) == SAID[name.split(",")[0]]


def test_a_quantised_model_is_one_model_however_it_is_read(written: Callable[[str], Path]) -> None:
    folder = written("FP8 in blocks, DeepSeek")
    here, streamed = (load_model(ModelRef(str(folder), streamed=way)) for way in (False, True))
    assert here.fingerprint == streamed.fingerprint == fingerprint(folder)
    assert here.weights_format == streamed.weights_format == SAID["FP8 in blocks"]
    assert not hasattr(here.model.config, "quantization_config")


def test_layers_that_keep_inputs_first_are_turned(tmp_path: Path) -> None:
    """Their plain twin has other layers, so that the order of sums differs."""
    folder = write_gpt2(tmp_path / "gpt2")
    here, streamed = (load_model(ModelRef(str(folder), streamed=way)) for way in (False, True))
    with torch.inference_mode():
        torch.testing.assert_close(
            here.model(IDS).logits, load_plain(folder)(IDS).logits, rtol=1e-4, atol=1e-5
        )
    for key, value in here.parameters.items():
        assert torch.equal(streamed.parameters[key], value), key


@pytest.mark.parametrize("name", ["FP8 in blocks, DeepSeek", "MXFP4, gpt-oss", "bitsandbytes NF4, Llama"])
def test_memory_is_estimated_for_the_dequantised_weights(written: Callable[[str], Path], name: str) -> None:
    folder = written(name)
    loaded = load_model(ModelRef(str(folder), dtype="bfloat16"))
    needs = estimate_folder(folder, "bfloat16")
    assert needs.weights == sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    assert needs.parameters == sum(p.numel() for p in loaded.model.parameters())
    assert needs.stored < needs.weights
    layers = [n for n in loaded.parameters if ".layers.1." in n]
    assert needs.layer >= 2 * sum(loaded.parameters[n].numel() for n in layers)
    assert needs.unpacking > 0


def test_settings_change_the_fingerprint(tmp_path: Path) -> None:
    folder = write_quantised(tmp_path / "a", make_llama(), to_fp8((16, 16)), fp8_settings((16, 16)))
    before = fingerprint(folder)
    change_settings(folder, weight_block_size=[8, 8])
    assert fingerprint(folder) != before


def change_settings(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    stored = json.loads(path.read_text())
    stored["quantization_config"] |= entries
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"quant_method": "hqq"}, r"quantised as hqq, which Headlamp cannot read; .* formats FP8, .*GGUF"),
        ({"quant_method": "awq", "version": "gemv"}, "awq in the layout gemv"),
        ({"quant_method": "awq", "bits": 8}, "awq with 8 bits"),
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, "gptq in the layout marlin"),
        ({"weight_block_size": [0, 16]}, "not two whole numbers"),
    ],
)
def test_a_format_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, entries: dict[str, object], says: str
) -> None:
    folder = write_quantised(tmp_path / "a", make_llama(), to_fp8((16, 16)), fp8_settings((16, 16)))
    change_settings(folder, **entries)
    for streamed in (False, True):
        with pytest.raises(NotAModel, match=says):
            load_model(ModelRef(str(folder), streamed=streamed))


def test_weights_that_are_not_quantised_are_not_called_so(tmp_path: Path) -> None:
    folder = write_quantised(tmp_path / "a", make_llama(), lambda key, tensor: None, fp8_settings((16, 16)))
    with pytest.raises(NotAModel, match="says that weights are quantised, and no tensor is; remove"):
        load_model(ModelRef(str(folder)))


def test_a_quantised_weight_without_its_scale_is_refused(tmp_path: Path) -> None:
    folder = write_quantised(tmp_path / "a", make_llama(), to_fp8((16, 16)), fp8_settings((16, 16)))
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.0.mlp.up_proj.weight_scale_inv"]
    save_file(weights, path, metadata={"format": "pt"})
    for streamed in (False, True):
        with pytest.raises(ModelError, match=r"up_proj\.weight is stored as float8_e4m3fn.* by which scale"):
            load_model(ModelRef(str(folder), streamed=streamed))


def test_shards_of_a_quantised_hub_model_are_fetched_one_at_a_time(hub: StandinHub, tmp_path: Path) -> None:
    """Each layer's scales lie in another shard than its weights."""
    folder = write_quantised(tmp_path / "m", make_llama(), to_fp8((16, 16)), fp8_settings((16, 16)))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    shards: dict[str, dict[str, torch.Tensor]] = {f"{name}.safetensors": {} for name in "abc"}
    for key, tensor in weights.items():
        name = "b" if key.endswith("_scale_inv") else "c" if ".layers.1." in key else "a"
        shards[f"{name}.safetensors"][key] = tensor
    for name, held in shards.items():
        save_file(held, folder / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {key: name for name, held in shards.items() for key in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.models["some/model"] = folder
    loaded = load_model(ModelRef("some/model", streamed=True, shards="delete"))
    assert loaded.weights_format == SAID["FP8 in blocks"]
    assert loaded.fingerprint == fingerprint(folder)
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in (0, 1)]
    with fetching(loaded, [{name} for name in names]) as done:
        for name in names:
            assert torch.equal(loaded.parameters[name], load_plain(folder).get_parameter(name))
            done()
    needs = check_memory_at_hub(hub_model("some/model"), "bfloat16").needs
    assert needs == estimate_folder(folder, "bfloat16")
