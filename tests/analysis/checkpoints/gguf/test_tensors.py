"""Tensors of GGUF files: what transformers loads, number by number, in bounded memory."""

from __future__ import annotations

import mmap
import re
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.checkpoints.gguf import tensors as tensors_module
from analysis.checkpoints.gguf import unpacking
from analysis.checkpoints.gguf.config import read_gguf_config
from analysis.checkpoints.gguf.description import list_left_out
from analysis.checkpoints.gguf.header import read_gguf_header
from analysis.checkpoints.gguf.tensors import ProcessedTensor, map_gguf_tensors
from analysis.checkpoints.loading import empty_model
from analysis.errors import ModelError, NotAModel
from analysis.opening.alive import Alive
from tests.analysis.checkpoints.gguf.gguf_made import (
    ARCHITECTURES,
    QUANTISED,
    WIDTH,
    load_plain,
    write_gguf,
)


def read_all(path: Path, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Every parameter of a file, each read into its place."""
    sources = map_gguf_tensors(read_gguf_header(path), empty_model(read_gguf_config(path), dtype))
    found = {key: torch.empty(source.shape, dtype=dtype) for key, source in sources.items()}
    for key, source in sources.items():
        source.read_into(found[key])
    return found


def expect_plain(path: Path, dtype: torch.dtype) -> None:
    """What is read is what transformers loads; it has tied heads under a second name."""
    plain, here = load_plain(path, dtype), read_all(path, dtype)
    state = {k: v for k, v in plain.state_dict().items() if k not in plain.all_tied_weights_keys}
    assert {*state} == {*here} - {*plain.all_tied_weights_keys}
    assert [key for key, value in state.items() if not torch.equal(value, here[key])] == []
    assert all(here[key].dtype == value.dtype for key, value in state.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", QUANTISED)
def test_every_quantisation_is_read_as_transformers_reads_it(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    expect_plain(write_gguf(tmp_path / "a.gguf", "llama", kind), dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "tied"),
    [(name, tied) for name in ARCHITECTURES for tied in (True, False) if (name, tied) != ("gemma2", False)],
)
def test_every_layout_is_read_as_transformers_reads_it(
    tmp_path: Path, architecture: str, tied: bool, dtype: torch.dtype
) -> None:
    expect_plain(write_gguf(tmp_path / "a.gguf", architecture, "Q8_0", tied=tied), dtype)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "IQ4_NL", "IQ2_XXS", "F16", "BF16"])
def test_quantisations_of_the_newer_path(tmp_path: Path, kind: str) -> None:
    path = write_gguf(tmp_path / "a.gguf", "lfm2", kind)
    expect_plain(path, torch.float32)
    expect_plain(path, torch.bfloat16)


def test_a_tensor_is_read_into_any_strides(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "qwen3moe", "Q5_0")
    sources = map_gguf_tensors(read_gguf_header(path), empty_model(read_gguf_config(path), torch.float32))
    for key, source in sources.items():
        straight = torch.empty(source.shape)
        source.read_into(straight)
        strided = torch.empty(*source.shape, 2)[..., 0]
        source.read_into(strided)
        assert torch.equal(straight, strided), key
        with pytest.raises(ValueError, match=re.escape(key)):
            source.read_into(torch.empty(3))


def test_no_more_than_a_piece_is_unpacked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "AT_ONCE", 1000)
    monkeypatch.setattr(tensors_module, "AT_ONCE", 1000)
    path = write_gguf(tmp_path / "a.gguf", "qwen3moe", "Q8_0", tied=False)
    plain, sizes = load_plain(path).state_dict(), list[int]()
    unpacked = unpacking.unpack

    def counted(packed: bytearray, *rest: Any) -> unpacking.Numbers:
        found = unpacked(packed, *rest)
        sizes.append(found.size)
        return found

    sources = map_gguf_tensors(read_gguf_header(path), empty_model(read_gguf_config(path), torch.float32))
    monkeypatch.setattr(unpacking, "unpack", counted)
    for key, source in sources.items():
        sizes.clear()
        out = torch.empty(source.shape)
        source.read_into(out)
        assert torch.equal(out, plain[key])
        assert 1 <= max(sizes) <= 1000
        assert sum(sizes) == out.numel()


@pytest.mark.parametrize("architecture", ["llama", "qwen3moe", "gpt2", "lfm2"])
def test_reading_takes_no_more_than_it_says(
    tmp_path: Path, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "a.gguf", architecture, "Q4_K", tied=False)
    model, pages, taken = empty_model(read_gguf_config(path), torch.bfloat16), list[int](), mmap.mmap

    def taking(place: int, size: int) -> mmap.mmap:
        pages.append(size)
        return taken(place, size)

    monkeypatch.setattr(unpacking, "mmap", SimpleNamespace(mmap=taking))
    for key, source in map_gguf_tensors(read_gguf_header(path), model).items():
        out = torch.empty(source.shape, dtype=torch.bfloat16)
        pages.clear()
        tracemalloc.start()
        with Alive() as alive:
            source.read_into(out)
        numbers = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert alive.most + numbers + max(pages, default=0) <= source.unpacking_bytes, key


def test_pieces_follow_from_what_transformers_does(tmp_path: Path) -> None:
    def pieces(architecture: str) -> dict[str, str]:
        path = write_gguf(tmp_path / f"{architecture}.gguf", architecture, "Q8_0", tied=False)
        model = empty_model(read_gguf_config(path), torch.float32)
        found = map_gguf_tensors(read_gguf_header(path), model)
        return {
            source.parts[0].name: source.pieces
            for source in found.values()
            if isinstance(source, ProcessedTensor)
        }

    llama, gpt2, moe = pieces("llama"), pieces("gpt2"), pieces("qwen3moe")
    assert {llama["blk.0.attn_q.weight"], gpt2["blk.0.ffn_up.weight"]} == {"whole"}
    assert {llama["token_embd.weight"], llama["blk.0.ffn_up.weight"], gpt2["token_embd.weight"]} == {"rows"}
    assert {gpt2["output.weight"], moe["blk.0.ffn_gate_exps.weight"], moe["blk.1.ffn_down_exps.weight"]} == {
        "slices"
    }


def test_a_type_that_transformers_does_not_dequantise_is_refused_by_name(tmp_path: Path) -> None:
    for architecture, kind in (("llama", "Q8_K"), ("lfm2", "Q5_0")):
        path = write_gguf(tmp_path / f"{architecture}.gguf", architecture, kind)
        model = empty_model(read_gguf_config(path), torch.float32)
        with pytest.raises(NotAModel, match=rf"stored as {kind}, which transformers does not dequantise"):
            map_gguf_tensors(read_gguf_header(path), model)


def test_a_tensor_without_a_place_is_refused_by_name(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", extra={"blk.1.attn_q.bias": (WIDTH,)})
    with pytest.raises(NotAModel, match=r"no place for blk\.1\.attn_q\.bias in a llama model"):
        read_all(path)


def test_a_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", extra={"blk.0.ffn_up.weight": (8, WIDTH)})
    with pytest.raises(NotAModel, match=r"blk\.0\.ffn_up\.weight \[8, 256\] does not fit .*up_proj\.weight"):
        read_all(path)


def test_rotary_tables_are_left_out_and_named(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "a.gguf",
        extra={"rope_freqs.weight": (32,)},
        metadata=lambda writer: writer.add_rope_scaling_type(__import__("gguf").RopeScalingType.YARN),
    )
    assert "rope_freqs.weight" not in read_all(path)
    assert list_left_out(read_gguf_header(path)) == ["rope_freqs", "rope scaling yarn"]
    assert list_left_out(read_gguf_header(write_gguf(tmp_path / "b.gguf"))) == []


def test_a_file_that_becomes_shorter_gives_an_error(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", kind="Q4_0")
    sources = map_gguf_tensors(read_gguf_header(path), empty_model(read_gguf_config(path), torch.float32))
    path.write_bytes(path.read_bytes()[:-100_000])
    last = max(sources.values(), key=lambda source: source.parts[0].start)
    with pytest.raises(ModelError, match="ended while it was read"):
        last.read_into(torch.empty(last.shape))
