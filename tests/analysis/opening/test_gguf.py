"""GGUF models opened: in memory and from disk, by file, folder and Hub, with identity, memory and
refusals.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.checkpoints.fingerprint import fingerprint, stamp
from analysis.checkpoints.sources import is_hub_file, is_hub_id, local_path, resolve
from analysis.errors import (
    FetchFailed,
    ModelError,
    ModelNotFound,
    NotAModel,
    NotCausal,
    NotFetched,
    NoTokenizer,
)
from analysis.opening.memory import estimate_folder
from analysis.opening.models import ModelRef, load_model, resolve_ref
from tests.analysis.checkpoints.gguf.gguf_made import ARCHITECTURES, load_plain, write_gguf
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from tests.standin_hub import StandinHub

IDS = torch.tensor([[1, 20, 30, 40, 50, 60]])


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in {"lfm2", "qwen35"}])
def test_a_gguf_model_says_what_transformers_says(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", architecture, "Q4_1")
    here, streamed = load_model(ModelRef(str(path))), load_model(ModelRef(str(path), streamed=True))
    plain = load_plain(path)
    for name, value in plain.named_parameters():
        assert torch.equal(here.parameters[name], value), name
    with torch.inference_mode():  # to rounding: a product's kernel depends on how its weights lie in memory
        torch.testing.assert_close(here.model(IDS).logits, plain(IDS).logits, rtol=1e-5, atol=1e-5)
    assert here.weights_format == streamed.weights_format == "dequantised from Q4_1 (with F32)"
    assert here.fingerprint == streamed.fingerprint
    assert set(here.parameters) == set(streamed.parameters)
    for name, value in here.parameters.items():
        assert torch.equal(streamed.parameters[name], value), name
    assert here.ends_of_text == streamed.ends_of_text == {here.tokenizer.eos_token_id}


@pytest.mark.parametrize("architecture", ["lfm2", "qwen35"])
def test_so_does_one_of_the_newer_path(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", architecture, "Q8_0")
    for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        here = load_model(ModelRef(str(path), dtype=name))
        with torch.inference_mode():
            assert torch.equal(here.model(IDS).logits, load_plain(path, dtype)(IDS).logits)
        streamed = load_model(ModelRef(str(path), dtype=name, streamed=True))
        assert all(torch.equal(streamed.parameters[key], value) for key, value in here.parameters.items())


@pytest.mark.parametrize(
    ("kind", "kinds", "said"),
    [
        ("Q4_K", {"output.weight": "Q6_K"}, "dequantised from Q4_K (with Q6_K, F32)"),
        ("Q4_1", {"token_embd.weight": "Q8_0"}, "dequantised from Q4_1 (with Q8_0, F32)"),
        ("F16", {"blk.0.ffn_up.weight": "Q5_0"}, "dequantised from Q5_0 (with F16, F32)"),
        ("BF16", {}, "read from GGUF in BF16 (with F32)"),
        ("F32", {}, "read from GGUF in F32"),
    ],
)
def test_what_the_weights_are_from_is_said(
    tmp_path: Path, kind: str, kinds: dict[str, str], said: str
) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama", kind, kinds=kinds, tied=False)
    assert load_model(ModelRef(str(path), streamed=True)).weights_format == said


def test_a_model_of_safetensors_says_nothing(llama_folder: Path) -> None:
    assert load_model(ModelRef(str(llama_folder))).weights_format == ""


def test_a_folder_with_one_gguf_file_is_that_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "only.gguf")
    (tmp_path / "._only.gguf").write_bytes(b"left by macOS")
    (tmp_path / "README.md").write_text("tiny")
    loaded = load_model(ModelRef(str(tmp_path)))
    assert loaded.path == path
    assert loaded.fingerprint == load_model(ModelRef(str(path))).fingerprint


def test_several_gguf_files_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("b.Q8_0.gguf", "a.Q4_0.gguf"):
        write_gguf(tmp_path / name)
    with pytest.raises(
        NotAModel, match=r"several GGUF files; name one of them .*: a\.Q4_0\.gguf, b\.Q8_0\.gguf"
    ):
        resolve(str(tmp_path))


def test_safetensors_precede_a_gguf_file(tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    write_gguf(tmp_path / "a.gguf")
    assert resolve(str(tmp_path)) == tmp_path
    assert load_model(ModelRef(str(tmp_path))).weights_format == ""


def test_one_part_of_several_is_refused_by_name(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m-00001-of-00003.gguf", metadata=lambda w: w.add_uint16("split.count", 3))
    for name in (tmp_path, tmp_path / "m-00001-of-00003.gguf"):
        with pytest.raises(NotAModel, match=r"m-00001-of-00003.gguf.* one of 3 parts"):
            load_model(ModelRef(str(name)))


def test_the_fingerprint_is_of_the_bytes_not_of_the_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    (tmp_path / "elsewhere").mkdir()
    other = shutil.copy(path, tmp_path / "elsewhere" / "b.gguf")
    assert fingerprint(Path(other)) == fingerprint(path)
    assert fingerprint(write_gguf(tmp_path / "elsewhere" / "c.gguf", kind="Q8_0")) != fingerprint(path)


def test_a_rewritten_file_is_seen(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    loaded, before = load_model(ModelRef(str(path), streamed=True)), stamp(path)
    assert not loaded.changed_on_disk
    write_gguf(path, kind="Q8_0")
    assert loaded.changed_on_disk
    assert stamp(path) != before
    assert loaded.streamed is not None
    with (
        pytest.raises(ModelError, match="was changed while it was read"),
        loaded.streamed.checkpoint.reading("model.layers.1", {}),
    ):
        pass


def test_a_relative_name_becomes_absolute_and_a_link_keeps_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = write_gguf(tmp_path / "0123abc")
    (tmp_path / "model.gguf").symlink_to(blob)
    monkeypatch.chdir(tmp_path)
    assert resolve_ref(ModelRef("model.gguf")).name == str(tmp_path / "model.gguf")
    assert resolve("0123abc") == blob, "a file that begins as one"
    assert local_path("model.gguf") == tmp_path / "model.gguf"
    assert not is_hub_id("model.gguf")


def test_names_that_are_no_gguf_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="there is no file of this name"):
        resolve(str(tmp_path / "none.gguf"))
    (tmp_path / "notes.txt").write_text("no model")
    with pytest.raises(NotAModel, match="is a file, but no GGUF file"):
        resolve(str(tmp_path / "notes.txt"))
    (tmp_path / "empty.gguf").write_bytes(b"")
    with pytest.raises(NotAModel, match="truncated within its header"):
        load_model(ModelRef(str(tmp_path / "empty.gguf")))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(NotAModel, match="is a file, but no GGUF file"):
            resolve(str(tmp_path / "pipe.gguf"))


def test_a_model_that_predicts_no_next_token_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "t5")
    with pytest.raises(NotCausal, match=r"encoder–decoder \(t5\)"):
        load_model(ModelRef(str(path)))


def test_without_a_vocabulary_the_way_on_is_another_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", tokenizer=False)
    with pytest.raises(NoTokenizer, match=r"holds no vocabulary.*use a GGUF file with a vocabulary"):
        load_model(ModelRef(str(path)))


def test_missing_tensors_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", metadata=lambda w: None)
    raw = path.read_bytes().replace(b"blk.1.ffn_up.weight", b"rope_freqs.weight\0\0")
    path.write_bytes(raw)
    for streamed in (False, True):
        with pytest.raises(ModelError):
            load_model(ModelRef(str(path), streamed=streamed))


def test_the_memory_estimate_knows_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "qwen3moe", "Q4_0")
    loaded, needs = load_model(ModelRef(str(path))), estimate_folder(path, "float32")
    parameters = list(loaded.model.parameters())
    assert needs.parameters == sum(p.numel() for p in parameters)
    assert needs.weights == sum(p.numel() * 4 for p in parameters)
    assert 0.9 * path.stat().st_size < needs.stored < path.stat().st_size
    assert needs.unpacking >= 16 * 768 * 256
    assert replace(needs, unpacking=10**12).peak == needs.weights + 10**12
    assert replace(needs, unpacking=10**12).streamed_peak > 10**12
    per_layer = sum(p.numel() for name, p in loaded.model.named_parameters() if ".layers.0." in name)
    assert needs.layer == 4 * per_layer


HUB = "some/model:a.Q8_0.gguf"


@pytest.fixture
def file_at_hub(hub: StandinHub, tmp_path: Path) -> Path:
    """A folder at the Hub with two files of one model, and a readme."""
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "README.md").write_text("tiny")
    write_gguf(folder / "b.gguf")
    hub.models["some/model"] = folder
    return write_gguf(folder / "a.Q8_0.gguf", kind="Q8_0")


def test_one_file_of_a_hub_model_is_fetched_alone(hub: StandinHub, file_at_hub: Path) -> None:
    assert is_hub_id(HUB)
    assert is_hub_file(HUB)
    with pytest.raises(NotFetched, match=r"a\.Q8_0\.gguf of the Hub model some/model is not on this machine"):
        load_model(ModelRef(HUB))
    assert hub.fetched() == []
    loaded = load_model(ModelRef(HUB), fetch=True)
    assert hub.fetched() == ["a.Q8_0.gguf"]
    assert loaded.fingerprint == fingerprint(file_at_hub)
    assert loaded.weights_format == "dequantised from Q8_0 (with F32)"
    hub.stop()
    assert load_model(ModelRef(HUB)).path == loaded.path, "it stays here"


def test_streaming_a_hub_file_fetches_it_whole(hub: StandinHub, file_at_hub: Path) -> None:
    ref = resolve_ref(ModelRef(HUB, streamed=True, shards="delete"))
    assert ref.shards == "local"
    loaded = load_model(ref, fetch=True)
    assert hub.fetched() == ["a.Q8_0.gguf"]
    assert loaded.at_hub is None
    assert loaded.parameters["lm_head.weight"].shape == (300, 256)


def test_a_file_that_the_hub_does_not_have(hub: StandinHub, file_at_hub: Path) -> None:
    with pytest.raises(FetchFailed, match=r"c\.gguf of some/model could not be fetched .*\(404\)"):
        load_model(ModelRef("some/model:c.gguf"), fetch=True)
    with pytest.raises(ModelNotFound, match="the Hub has no model some/other"):
        load_model(ModelRef("some/other:c.gguf"), fetch=True)
    with pytest.raises(ModelNotFound, match="there is no file of this name"):
        load_model(ModelRef("some/model:../../c.gguf"), fetch=True)


def test_a_hub_model_of_gguf_files_alone_says_how_to_name_one(hub: StandinHub, file_at_hub: Path) -> None:
    with pytest.raises(NotAModel, match=r"GGUF weights only; name one of them: some/model:a\.Q8_0\.gguf"):
        load_model(ModelRef("some/model"), fetch=True)
