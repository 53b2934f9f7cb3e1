"""The header of a GGUF file: metadata and the places of its tensors, checked against the file.

A GGUF file is a magic number, counts, metadata as key and typed value, one entry per tensor, and the tensors'
bytes at aligned offsets (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Nothing is mapped, and
no length is believed before the file was found to have as many bytes.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from analysis.checkpoints.gguf.contents import Field, GgufHeader, PackedTensor
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_LONGEST_HEADER = 256 << 20
"""Bytes; the largest known vocabularies take a twentieth of it."""
_LONGEST_KEY = 1 << 16
_LONGEST_STRING = 16 << 20
_KEPT_NUMBERS = 4096
"""Longest list of numbers whose values are kept: a configuration has one per layer, a tokenizer one per
token.
"""
_MOST_ENTRIES = 1 << 17
"""Keys or tensors; the largest known models have some thousand."""
_MOST_DIMENSIONS = 4
_NUMBERS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""Type in the file → struct format."""
_STRING, _ARRAY = 8, 9


def read_gguf_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises NotAModel for a file that cannot be read, is truncated, damaged, of another format or version, or
    one part of several.
    """
    try:
        stat = path.stat()
        return _read_cached(path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    except OSError as error:
        why = error.strerror or error
        raise NotAModel(f"{path} cannot be read: {why}; check its name and permissions") from error


@lru_cache(maxsize=8)
def _read_cached(path: Path, size: int, *_: int) -> GgufHeader:
    try:
        with path.open("rb") as file:
            found = _Reading(path, file, size).header()
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise NotAModel(f"{path} cannot be read as GGUF ({error}){AGAIN}") from error
    _refuse_parts(found)
    return found


class _Reading:
    """One pass over the header of an open file of `size` bytes."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size, self._at = path, file, size, 0

    def header(self) -> GgufHeader:
        """Read it. Raises NotAModel and ValueError for one that cannot be true."""
        if self._take(4) != MAGIC:
            raise NotAModel(f"{self._path} is not a GGUF file; give a file that begins with the letters GGUF")
        (version,) = self._numbers("I")
        if version not in _VERSIONS:
            swapped = version & 0xFFFF == 0
            what = "stored for a big-endian machine" if swapped else f"of GGUF version {version}"
            raise NotAModel(
                f"{self._path} is {what}; Headlamp reads little-endian GGUF 2 and 3: convert it again"
            )
        tensors, fields = self._numbers("QQ")
        if max(tensors, fields) > _MOST_ENTRIES:
            raise ValueError(f"its header counts {max(tensors, fields):,} entries")
        known = self._fields(fields)
        entries = [self._entry() for _ in range(self._at_most(tensors, 24))]
        if not isinstance(known.get("general.architecture", Field(None, 0, 0)).value, str):
            raise NotAModel(f"{self._path} names no architecture in its metadata; it is not a language model")
        step = known.get("general.alignment", Field(32, 0, 0)).value
        if type(step) is not int or step <= 0 or step & (step - 1):
            raise ValueError(f"its alignment {step} is not a power of two")
        return GgufHeader(self._path, known, self._place(entries, -(-self._at // step) * step))

    def _fields(self, count: int) -> dict[str, Field]:
        found: dict[str, Field] = {}
        for _ in range(self._at_most(count, 13)):
            start, key = self._at, self._text(_LONGEST_KEY)
            (kind,) = self._numbers("I")
            value = self._value(kind)
            if key in found:
                raise ValueError(f"its metadata has {key} twice")
            found[key] = Field(value, start, self._at, kind == _ARRAY)
        return found

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind])[0]
        if kind == _STRING:
            return self._text(_LONGEST_STRING)
        if kind == _ARRAY:
            inner, count = self._numbers("IQ")
            return self._array(inner, count)
        raise ValueError(f"its metadata has a value of the unknown type {kind}")

    def _array(self, kind: int, count: int) -> Any:
        if kind == _STRING:
            self._skip_texts(self._at_most(count, 8))
            return count
        if kind not in _NUMBERS:
            raise ValueError(f"its metadata has a list of the unknown type {kind}")
        width = struct.calcsize(f"<{_NUMBERS[kind]}")
        if count > _KEPT_NUMBERS:
            self._skip(count * width)
            return count
        return list(self._numbers(f"{count}{_NUMBERS[kind]}")) if count else []

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text(_LONGEST_KEY)
        (dimensions,) = self._numbers("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(f"its header gives {name} {dimensions} dimensions")
        shape = self._numbers(f"{dimensions}Q")
        kind, offset = self._numbers("IQ")
        return name, tuple(reversed(shape)), kind, offset

    def _place(
        self, entries: list[tuple[str, tuple[int, ...], int, int]], start: int
    ) -> dict[str, PackedTensor]:
        found: dict[str, PackedTensor] = {}
        for name, shape, kind, offset in entries:
            if name in found:
                raise ValueError(f"its header lists {name} twice")
            label, count = self._measure(name, shape, kind)
            if start + offset + count > self._size:
                raise NotAModel(
                    f"{self._path} is truncated: {name} ends at byte {start + offset + count:,}, the "
                    "file has "
                    f"{self._size:,}{AGAIN}"
                )
            found[name] = PackedTensor(name, self._path, shape, label, start + offset, count)
        _refuse_overlap(found)
        return found

    def _measure(self, name: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
        """The name of a tensor's type, and how many bytes it takes."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            known = GGMLQuantizationType(kind)
        except ValueError:
            raise NotAModel(
                f"{self._path}: {name} is stored as GGML type {kind}, which is unknown; use a file in "
                "another "
                "quantisation"
            ) from None
        block, size = GGML_QUANT_SIZES[known]
        if not math.prod(shape):
            raise ValueError(f"its header gives {name} no numbers")
        if shape[-1] % block:
            raise ValueError(
                f"rows of {name} have {shape[-1]} numbers, no multiple of {block}, as {known.name} needs"
            )
        return known.name, math.prod(shape) // block * size

    def _at_most(self, count: int, least: int) -> int:
        """A count, if the file can hold so many entries of at least `least` bytes."""
        if count * least > min(self._size, _LONGEST_HEADER) - self._at:
            raise ValueError(f"its header counts {count:,} entries, more than the file can hold")
        return count

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{layout}", self._take(struct.calcsize(f"<{layout}")))

    def _text(self, longest: int) -> str:
        (length,) = self._numbers("Q")
        if length > longest:
            raise ValueError(f"its header has a text of {length:,} bytes")
        return self._take(length).decode("utf-8")

    def _take(self, count: int) -> bytes:
        self._advance(count)
        taken = self._file.read(count)
        if len(taken) < count:
            raise ValueError("it ended while it was read")
        return taken

    def _skip_texts(self, count: int) -> None:
        """Skip a vocabulary; a hundred thousand lengths are read one by one, so without further calls."""
        read, seek, length_of, end = self._file.read, self._file.seek, struct.Struct("<Q").unpack, self._size
        at = self._at
        for _ in range(count):
            (length,) = length_of(read(8))
            at += 8 + length
            if at > end:
                break
            seek(length, os.SEEK_CUR)
        self._advance(at - self._at)

    def _skip(self, count: int) -> None:
        self._advance(count)
        self._file.seek(count, os.SEEK_CUR)

    def _advance(self, count: int) -> None:
        self._at += count
        if self._at > self._size:
            raise NotAModel(f"{self._path} is truncated within its header{AGAIN}")
        if self._at > _LONGEST_HEADER:
            raise ValueError(f"its header is longer than {_LONGEST_HEADER:,} bytes")


def _refuse_overlap(tensors: Mapping[str, PackedTensor]) -> None:
    last = None
    for tensor in sorted(tensors.values(), key=lambda tensor: tensor.start):
        if last is not None and tensor.start < last.start + last.stored_bytes:
            raise ValueError(f"its header has {last.name} and {tensor.name} share bytes")
        last = tensor


def _refuse_parts(found: GgufHeader) -> None:
    parts = found.value("split.count")
    if isinstance(parts, int) and parts > 1:
        raise NotAModel(
            f"{found.path} is one of {parts} parts, which transformers does not read; join them into "
            "one file: "
            "llama-gguf-split --merge FIRST-PART.gguf WHOLE.gguf"
        )
