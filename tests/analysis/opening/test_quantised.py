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
from analysis.errors import ModelError, NotAModel
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.memory import estimate_folder
from analysis.opening.models import LoadedModel, ModelRef, load_model
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

IDS = torch.tensor([[1, 20, 30, 40, 50, 60]])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each checkpoint, written once."""
    return cache(lambda name: WRITERS[name](tmp_path_factory.mktemp("quantised")))


def labels(loaded: LoadedModel) -> list[list[list[int]]]:
    """The best tokens of every neuron of every block, as read and as decoded from disk."""
    return [
        decode_vectors(
            read_block_vectors(loaded.anatomy, block, loaded.parameters, "down"), loaded.head, 5
        ).top_ids.tolist()
        for block in loaded.anatomy.blocks
    ]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_quantised_model_is_what_transformers_dequantises(
    written: Callable[[str], Path], name: str, dtype: str
) -> None:
    folder = written(name)
    here = load_model(ModelRef(str(folder), dtype=dtype))
    streamed = load_model(ModelRef(str(folder), dtype=dtype, streamed=True))
    plain = load_plain(folder, getattr(torch, dtype))
    assert set(here.parameters) == set(streamed.parameters) == set(dict(plain.named_parameters()))
    for key, value in plain.named_parameters():
        assert torch.equal(here.parameters[key], value), key
        assert torch.equal(streamed.parameters[key], value), key
    with torch.inference_mode():
        assert torch.equal(here.model(IDS).logits, plain(IDS).logits)
    assert labels(here) == labels(streamed)
    assert here.weights_format == streamed.weights_format == SAID[name.split(",")[0]]
    assert here.fingerprint == streamed.fingerprint == fingerprint(folder)
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


@pytest.mark.parametrize("name", WRITERS)
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
