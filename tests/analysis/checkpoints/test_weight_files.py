"""Which files are a model's weights: what transformers itself would load, or a refusal by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from analysis.checkpoints.fingerprint import fingerprint, stamp
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.weight_files import INDEX, choose_weight_files, find_weight_files
from analysis.errors import NotAModel, UnsafeWeights
from analysis.opening.models import ModelRef, load_model
from tests.analysis.conftest import tiny_model, tiny_tokenizer

WEIGHT = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def in_shards(folder: Path, factor: float, into: str = "") -> None:
    """Other weights than the folder's own, as two shards and their index."""
    weights = {key: tensor * factor for key, tensor in load_file(folder / "model.safetensors").items()}
    keys = sorted(weights)
    parts = {
        f"{into}model-00001-of-00002.safetensors": keys[::2],
        f"{into}model-00002-of-00002.safetensors": keys[1::2],
    }
    for name, own in parts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        save_file({key: weights[key] for key in own}, folder / name, metadata={"format": "pt"})
    listed = {key: name for name, own in parts.items() for key in own}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))


def in_transformers(folder: Path) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.get_parameter(WEIGHT)


def opened(folder: Path, *, streamed: bool) -> torch.Tensor:
    return load_model(ModelRef(str(folder), streamed=streamed)).parameters[WEIGHT]


def same_as_transformers(folder: Path) -> None:
    theirs = in_transformers(folder)
    for streamed in (False, True):
        assert torch.equal(opened(folder, streamed=streamed), theirs)


def test_every_file_that_a_tokenizer_may_be_read_from_is_part_of_the_fingerprint(folder: Path) -> None:
    found = {fingerprint(folder)}
    for name in ("tokenizer.4.0.0.json", "spiece.model", "sentencepiece.bpe.model", "tekken.json"):
        (folder / name).write_text(name)
        found.add(fingerprint(folder))
    assert len(found) == 5


def test_an_index_left_behind_does_not_count_beside_the_single_file(folder: Path) -> None:
    alone = fingerprint(folder)
    in_shards(folder, 3.0)
    same_as_transformers(folder)
    assert fingerprint(folder) == alone
    for shard in folder.glob("model-*"):
        shard.unlink()
    same_as_transformers(folder)


def test_shards_are_read_by_their_index_also_from_folders(folder: Path) -> None:
    in_shards(folder, 3.0, into="weights/")
    single = fingerprint(folder)
    (folder / "model.safetensors").unlink()
    same_as_transformers(folder)
    assert find_weight_files(folder).names[0] == "weights/model-00001-of-00002.safetensors"
    sharded = fingerprint(folder)
    assert sharded != single
    found = {single, sharded}
    for shard in sorted((folder / "weights").iterdir()):
        save_file({key: tensor * 2 for key, tensor in load_file(shard).items()}, shard)
        found.add(fingerprint(folder))
    assert len(found) == 4


def test_hidden_files_do_not_count(folder: Path) -> None:
    before = fingerprint(folder), stamp(folder)
    for path in list(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(100))
    same_as_transformers(folder)
    assert (fingerprint(folder), stamp(folder)) == before


def test_a_second_file_beside_the_single_one_does_not_count(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "before_tuning.safetensors")
    save_file({WEIGHT: torch.zeros(2)}, folder / "adapter_model.safetensors")
    same_as_transformers(folder)


def test_one_file_of_another_name_is_read_and_several_are_refused_by_name(folder: Path) -> None:
    own = in_transformers(folder)
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    assert torch.equal(opened(folder, streamed=False), own)
    shutil.copy(folder / "weights.safetensors", folder / "second.safetensors")
    with pytest.raises(NotAModel, match=r"2 files of weights \(second\.safetensors, weights\.safetensors\)"):
        load_model(ModelRef(str(folder)))


def test_a_file_that_the_configuration_names_precedes(folder: Path) -> None:
    in_shards(folder, 3.0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": INDEX}))
    same_as_transformers(folder)
    assert find_weight_files(folder).index == INDEX


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "x.bin"])
def test_an_index_does_not_lead_out_of_the_folder(name: str) -> None:
    with pytest.raises(NotAModel, match="only \\*\\.safetensors inside the model's folder are read"):
        choose_weight_files("m", [INDEX], lambda index: {"a": name})
    with pytest.raises(NotAModel, match="only \\*\\.safetensors inside the model's folder are read"):
        choose_weight_files("m", ["model.safetensors"], lambda index: {}, stated=name)


def test_a_tensor_in_two_shards_is_refused_unless_the_index_means_the_last(folder: Path) -> None:
    in_shards(folder, 1.0)
    (folder / "model.safetensors").unlink()
    last = folder / "model-00002-of-00002.safetensors"
    listed = json.loads((folder / INDEX).read_text())["weight_map"]
    key = next(key for key, name in listed.items() if name != last.name)
    twice = load_file(last) | {key: load_file(folder / listed[key])[key] * 5}
    save_file(twice, last, metadata={"format": "pt"})
    with pytest.raises(NotAModel, match=f"both model-00001.* and {last.name} contain {key}"):
        read_stored_tensors(folder)
    listed[key] = last.name
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    assert read_stored_tensors(folder)[key].path == last
    same_as_transformers(folder)


@pytest.mark.parametrize(
    ("names", "error", "says"),
    [
        (["pytorch_model.bin"], UnsafeWeights, "pickled weights only"),
        (["model.onnx"], NotAModel, r"ONNX weights only \(model\.onnx\)"),
        (["adapter_config.json", "adapter_model.safetensors"], NotAModel, "holds an adapter"),
        (["model.Q4_1.gguf"], NotAModel, r"name one of them: m:model\.Q4_1\.gguf"),
        (["._model.safetensors"], NotAModel, "no \\*\\.safetensors weights"),
    ],
)
def test_a_model_without_weights_says_what_it_has(
    names: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        choose_weight_files("m", names, lambda index: {})
