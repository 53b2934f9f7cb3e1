"""Configuration and tokenizer of GGUF files: transformers' own, from the file alone, without its
vocabulary.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import gguf
import pytest
from transformers import AutoConfig, AutoTokenizer

from analysis.checkpoints.gguf import config as config_module
from analysis.checkpoints.gguf.config import read_gguf_config, read_gguf_parameters, read_gguf_tokenizer
from analysis.checkpoints.gguf.header import read_gguf_header
from analysis.errors import NotAModel
from demo import BUNDLED
from tests.analysis.checkpoints.gguf.gguf_made import ARCHITECTURES, TEMPLATE, VOCAB, write_gguf


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_configuration_is_transformers_own(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", architecture)
    here, plain = read_gguf_config(path), AutoConfig.from_pretrained(tmp_path, gguf_file=path.name)
    assert type(here) is type(plain)
    assert here.name_or_path == str(path)
    assert here.to_dict() | {"_name_or_path": ""} == plain.to_dict() | {"_name_or_path": ""}
    assert here.vocab_size == VOCAB


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2", "gemma2", "phi3", "lfm2", "qwen35"])
def test_the_tokenizer_is_transformers_own(tmp_path: Path, architecture: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", architecture)
    here, plain = read_gguf_tokenizer(path), AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert type(here) is type(plain)
    assert here.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert here.special_tokens_map == plain.special_tokens_map
    assert here.chat_template == plain.chat_template
    assert here("the nearest tea") == plain("the nearest tea")


def test_the_template_is_that_of_the_file(tmp_path: Path) -> None:
    tokenizer = read_gguf_tokenizer(write_gguf(tmp_path / "a.gguf"))
    assert tokenizer.chat_template == TEMPLATE
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert tokenizer("a").input_ids[0] == tokenizer.bos_token_id


def test_files_beside_it_do_not_count(tmp_path: Path) -> None:
    alone = write_gguf(tmp_path / "alone.gguf")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(BUNDLED["demo/chat"] / name, tmp_path)
    assert len(read_gguf_tokenizer(alone)) == VOCAB
    assert read_gguf_config(alone).vocab_size == VOCAB
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] != VOCAB


def test_the_vocabulary_is_not_read_for_the_configuration(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    whole = path.stat().st_size
    with config_module._copied_metadata(read_gguf_header(path)) as folder:
        (copy,) = folder.iterdir()
        reader = gguf.GGUFReader(copy)
        assert copy.stat().st_size < whole / 100
    assert not {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"} & reader.fields.keys()
    assert {tensor.name for tensor in reader.tensors} == {
        tensor.name for tensor in gguf.GGUFReader(path).tensors
    }
    assert read_gguf_parameters(path)["num_attention_heads"] == 4


def test_a_vocabulary_is_counted_where_the_file_states_no_size(tmp_path: Path) -> None:
    for architecture in ("gpt2", "lfm2"):
        path = write_gguf(tmp_path / f"{architecture}.gguf", architecture)
        assert read_gguf_config(path).vocab_size == VOCAB


def test_an_architecture_that_transformers_refuses_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "clip")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(NotAModel, match=r"architecture clip is not supported yet\); use the original model"):
        read_gguf_config(path)


def test_missing_metadata_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "lfm2", tokenizer=False)
    with pytest.raises(NotAModel, match=r"lacks tokenizer\.ggml\.tokens in its metadata"):
        read_gguf_config(path)


def test_a_file_without_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no vocabulary"):
        read_gguf_tokenizer(write_gguf(tmp_path / "a.gguf", tokenizer=False))


@pytest.mark.parametrize(
    "name", ["block_count", "embedding_length", "rope.dimension_count", "attention.head_count"]
)
def test_a_size_beyond_the_tensors_is_refused_before_a_model_is_built(tmp_path: Path, name: str) -> None:
    path = write_gguf(tmp_path / "a.gguf")
    key = f"llama.{name}".encode() + bytes([4, 0, 0, 0])
    raw = path.read_bytes()
    place = raw.index(key) + len(key)
    path.write_bytes(raw[:place] + bytes([255] * 4) + raw[place + 4 :])
    with pytest.raises(
        NotAModel, match=rf"gives {re.escape(name)} 4,294,967,295, but its tensors have at most"
    ):
        read_gguf_config(path)
