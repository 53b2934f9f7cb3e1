"""The zip file for exchanging runs: members with digests, and validation of everything in it.

A list of runs, `headlamp-runs.json`, with the SHA-256 of every other member; per run `KEY/units.json`,
and `KEY/0000.safetensors` for each unit that has arrays. Names of members are made from keys and
numbers, never taken from the file.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.numpy import load, save

from store.blobs import Array
from store.errors import BadImport, StoreError, UnstorableValue

FORMAT = 1
"""The format version, the value of `headlamp_runs` in its list."""

LIST = "headlamp-runs.json"

PIECE = 1 << 18
"""Bytes of a JSON member unpacked at a time."""

GROWTH, SMALL = 64, 32 << 20
"""Largest factor by which a file may unpack, or largest size if that is more. Files of `runs export` grow at
most thirtyfold as measured; a file made to exhaust a machine, a thousandfold."""

ARRAYS_COST, JSON_COST = 3, 40
"""Memory used per byte of arrays while it is read and stored, and per byte of JSON at worst."""

_RESERVED = "__metadata__"

_MALFORMED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, SafetensorError, EOFError, OSError),
    *(KeyError, TypeError, ValueError, OverflowError, RecursionError, NotImplementedError, RuntimeError),
    MemoryError,
    StoreError,
)
"""What zipfile, json, safetensors and our own checks raise for a malformed file."""


def units_member(key: str) -> str:
    """The member with the units of run `key`."""
    return f"{key}/units.json"


def arrays_member(key: str, idx: int) -> str:
    """The member with the arrays of unit `idx` of run `key`."""
    return f"{key}/{idx:04d}.safetensors"


class ArchiveWriter:
    """Writes members one after the other and records their digests (`sha256`: member → hexadecimal)."""

    def __init__(self, out: BinaryIO) -> None:
        self.sha256: dict[str, str] = {}
        self._zip = zipfile.ZipFile(out, "w")

    def write_json(self, name: str, value: object) -> None:
        """Write a member that holds `value`, compressed."""
        self._write(name, [_json_bytes(value)], zipfile.ZIP_DEFLATED)

    def write_json_list(self, name: str, values: Iterable[object]) -> None:
        """Write a member that holds a list of `values`, one of them in memory at a time."""
        texts = map(_json_bytes, values)
        first = next(texts, b"")
        pieces = chain([b"[\n", first], (b",\n" + text for text in texts), [b"\n]"])
        self._write(name, pieces, zipfile.ZIP_DEFLATED)

    def write_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        """Write a member that holds `arrays`, uncompressed: numbers hardly shrink, and slowly."""
        if _RESERVED in arrays:
            raise UnstorableValue(f"{name}: safetensors cannot hold an array named {_RESERVED}; rename it")
        self._write(name, [save(dict(arrays))], zipfile.ZIP_STORED)

    def close(self) -> None:
        """Write the zip's directory."""
        self._zip.close()

    def _write(self, name: str, pieces: Iterable[bytes], method: int) -> None:
        digest, entry = hashlib.sha256(), zipfile.ZipInfo(name)
        entry.compress_type, entry.external_attr = method, 0o600 << 16
        with self._zip.open(entry, "w", force_zip64=True) as member:
            for piece in pieces:
                digest.update(piece)
                member.write(piece)
        self.sha256[name] = digest.hexdigest()


class ArchiveReader:
    """Reads members of an untrusted file; any defect raises inside `reject_malformed`.

    memory: free memory in bytes. A member, or an entry of a list, that needs more is refused unread, as
    is a file that unpacks to far more than its own size.
    """

    def __init__(self, source: BinaryIO, *, memory: int) -> None:
        self._zip, self._memory = zipfile.ZipFile(source), memory
        size, unpacked = source.seek(0, os.SEEK_END), sum(entry.file_size for entry in self._zip.filelist)
        if unpacked > max(SMALL, GROWTH * size):
            raise ValueError(
                f"its {size} bytes unpack to {unpacked}, more than {GROWTH} times as many; if `runs export` "
                "wrote it, unzip it and zip it again without compression"
            )

    def size(self, name: str) -> int:
        """Bytes that a member unpacks to."""
        return self._zip.getinfo(name).file_size

    def read_json(self, name: str, sha256: str | None) -> Any:
        """The value in a member; its digest is checked if given."""
        self._check_fits(name, JSON_COST * self.size(name))
        return json.loads(b"".join(self._pieces(name, sha256)))

    def read_json_list(self, name: str, sha256: str) -> Iterator[dict[str, Any]]:
        """The objects of a list that a member holds, one at a time; its digest is checked at the end."""
        return objects(name, self._pieces(name, sha256), self._memory // JSON_COST)

    def read_arrays(self, name: str, sha256: str) -> dict[str, Array]:
        """The arrays a member holds."""
        self._check_fits(name, ARRAYS_COST * self.size(name))
        content = b"".join(self._pieces(name, sha256))
        try:
            return load(content)
        except KeyError as error:  # a dtype that NumPy does not have
            dtype = {"BF16": "bfloat16"}.get(error.args[0], error.args[0])
            raise ValueError(f"{name} holds an array of {dtype}; convert it to float32") from error

    def _check_fits(self, name: str, needed: int) -> None:
        if needed > self._memory:
            raise ValueError(
                f"{name} takes {needed / 1e6:.0f} MB of memory to read, and {self._memory / 1e6:.0f} MB are "
                "free; close other programs, or export fewer runs at once"
            )

    def _pieces(self, name: str, sha256: str | None) -> Iterator[bytes]:
        entry = self._zip.getinfo(name)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is packed by method {entry.compress_type}")
        digest, size = hashlib.sha256(), 0
        with self._zip.open(entry) as member:
            while content := member.read(PIECE):
                size += len(content)
                digest.update(content)
                yield content
        if size != entry.file_size:
            raise ValueError(f"{name} has {size} bytes instead of {entry.file_size}")
        if sha256 not in (None, digest.hexdigest()):
            raise ValueError(f"{name} is not what was exported: its SHA-256 differs")


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode()


def objects(name: str, pieces: Iterator[bytes], longest: int) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list read in pieces, one in memory at a time.

    ValueError if it is not such a list, or an object has over `longest` characters.
    """
    text, place, awaited, enough = "", 0, "[", 0
    utf8, decode = codecs.getincrementaldecoder("utf-8")(), json.JSONDecoder().raw_decode
    for piece in chain(pieces, [b""]):
        text, place = text[place:] + utf8.decode(piece, final=not piece), 0
        if piece and len(text) < enough:
            continue
        while (place := _skip_space(text, place)) < len(text):
            if text[place] not in awaited:
                raise ValueError(f"{name} is not a list of objects")
            if text[place] != "{":
                place, awaited = place + 1, _AFTER[text[place]]
                continue
            try:
                found, place = decode(text, place)
            except json.JSONDecodeError:
                if not piece:
                    raise
                enough = 2 * (len(text) - place)  # so that a long object is not parsed at every piece
                if enough > 2 * longest:
                    raise ValueError(f"{name} holds an object of over {longest} characters") from None
                break
            awaited = ",]"
            yield found
    if awaited or text[place:].strip():
        raise ValueError(f"{name} ends before its list does, or long after")


def _skip_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


_SPACE = re.compile(r"\s*")
_AFTER = {"[": "{]", ",": "{", "]": ""}
"""What may follow each sign of a list of objects."""


@contextmanager
def reject_malformed() -> Iterator[None]:
    """Turn whatever a malformed file raises into BadImport."""
    try:
        yield
    except BadImport:
        raise
    except _MALFORMED as error:
        raise BadImport(
            f"not a valid file of runs ({type(error).__name__}: {str(error)[:200]}); nothing was "
            "imported: export it again, or copy it again if it was truncated"
        ) from error
