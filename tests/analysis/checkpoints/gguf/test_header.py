"""Headers of GGUF files: what they say, and that no lie of theirs is believed."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gguf
import pytest

from analysis.checkpoints.gguf.header import read_gguf_header
from analysis.errors import NotAModel
from tests.analysis.checkpoints.gguf.gguf_made import WIDTH, write_gguf


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(
    *entries: bytes, fields: int = 1, tensors: int | None = None, version: int = 3, data: bytes = b""
) -> bytes:
    """A file: its architecture, more fields and tensors as given, and data at the next aligned offset."""
    count = (len(entries) - fields + 1 if tensors is None else tensors, fields)
    head = b"GGUF" + struct.pack("<IQQ", version, *count)
    head += text("general.architecture") + struct.pack("<I", 8) + text("llama") + b"".join(entries)
    return head + bytes(-len(head) % 32) + data


def entry(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def test_it_says_what_gguf_reads(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "qwen3moe", "Q4_1")
    found, plain = read_gguf_header(path), gguf.GGUFReader(path)
    assert found.architecture == "qwen3moe"
    assert list(found.tensors) == [tensor.name for tensor in plain.tensors]
    for tensor in plain.tensors:
        mine = found.tensors[tensor.name]
        assert (mine.kind, mine.start, mine.stored_bytes, mine.numel) == (
            tensor.tensor_type.name,
            tensor.data_offset,
            tensor.n_bytes,
            tensor.n_elements,
        )
        assert mine.shape == tuple(reversed(tensor.shape.tolist()))
    assert found.value("qwen3moe.rope.freq_base") == 10000.0
    assert found.value("qwen3moe.embedding_length") == WIDTH
    assert found.value("tokenizer.ggml.tokens") == 300
    assert found.value("no.such.key") is None


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", "llama")
    assert read_gguf_header(path).value("general.name") == "tiny"
    path.write_bytes(path.read_bytes().replace(b"tiny", b"wide"))
    assert read_gguf_header(path).value("general.name") == "wide"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "truncated within its header"),
        (b"GG", "truncated within its header"),
        (b"PK\3\4" + bytes(60), "is not a GGUF file"),
        (header(version=1), "of GGUF version 1"),
        (header(version=3 << 24), "for a big-endian machine"),
        (header(tensors=1 << 62), "counts 4,611,686,018,427,387,904 entries"),
        (header(fields=1 << 40, tensors=0), "entries"),
        (header(tensors=9), "more than the file can hold|truncated within"),
        (header(entry("a", (2, 2)), entry("b", (2, 2))), "b ends at byte|a ends at byte"),
        (header(entry("a", (2, 2)), entry("b", (2, 2)), data=bytes(32)), "a and b share bytes"),
        (header(entry("a", (2, 2)), entry("a", (2, 2), 0, 32), data=bytes(64)), "lists a twice"),
        (header(entry("a", (2, 2), 999), data=bytes(64)), "GGML type 999, which is unknown"),
        (header(entry("a", (33, 2), 2), data=bytes(64)), "have 33 numbers, no multiple of 32"),
        (header(entry("a", (0, 2)), data=bytes(64)), "no numbers"),
        (header(entry("a", (2,) * 5), data=bytes(999)), "5 dimensions"),
        (header(entry("a", (1 << 40, 1 << 20)), data=bytes(64)), "is truncated: a ends at byte"),
        (header(entry("a", (2, 2), 0, 1 << 63), data=bytes(64)), "is truncated: a ends at byte"),
        (header(text("x") + struct.pack("<IQ", 8, 1 << 60), fields=2), "text of 1,152,921"),
        (header(text("x") + struct.pack("<IIQ", 9, 4, 1 << 60), fields=2), "truncated within its header"),
        (header(text("x") + struct.pack("<IIQ", 9, 8, 1 << 60), fields=2), "more than the file can hold"),
        (header(text("x") + struct.pack("<IIQ", 9, 9, 1), fields=2), "list of the unknown type 9"),
        (header(text("x") + struct.pack("<I", 77), fields=2), "value of the unknown type 77"),
        (header(text("general.alignment") + struct.pack("<II", 4, 3), fields=2), "alignment 3"),
        (header(text("general.architecture") + struct.pack("<II", 4, 3), fields=2), "architecture twice"),
        (header(struct.pack("<Q", 1) + b"\xff" + struct.pack("<II", 4, 3), fields=2), "cannot be read"),
        (header(text("split.count") + struct.pack("<IH", 2, 3), fields=2), "one of 3 parts.*--merge"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(64), "names no architecture"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_true_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(NotAModel, match=why) as caught:
            read_gguf_header(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole, path = write_gguf(tmp_path / "whole.gguf").read_bytes(), tmp_path / "a.gguf"
    last = max(tensor.start for tensor in read_gguf_header(tmp_path / "whole.gguf").tensors.values())
    for length in [*range(0, 3000, 97), *range(3000, last, last // 40), len(whole) - 40]:
        path.write_bytes(whole[:length])
        with pytest.raises(NotAModel, match=r"truncated|cannot be read as GGUF"):
            read_gguf_header(path)


@pytest.mark.parametrize("change", [lambda b: 255 - b, lambda b: 0, lambda b: b ^ 1])
def test_a_damaged_byte_never_gives_a_traceback(tmp_path: Path, change: Callable[[int], int]) -> None:
    whole, path = write_gguf(tmp_path / "whole.gguf").read_bytes(), tmp_path / "a.gguf"
    for place in range(0, 12_000, 61):
        path.write_bytes(whole[:place] + bytes([change(whole[place])]) + whole[place + 1 :])
        with suppress(NotAModel):  # where the byte is part of a name or a number, all may be well
            assert read_gguf_header(path).tensors


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "a.gguf")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NotAModel, match="cannot be read: Permission denied; check its name and permissions"):
        read_gguf_header(path)
    monkeypatch.undo()
    path.unlink()
    with pytest.raises(NotAModel, match="cannot be read: No such file"):
        read_gguf_header(path)
