"""The zip file that runs travel in: members with digests, and everything about them that can be false.

A list of runs, `headlamp-runs.json`, with the SHA-256 of every other member; per run `KEY/units.json`,
and `KEY/0000.safetensors` for each unit that has arrays. Names of members are made from keys and
numbers, never taken from the file.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

from safetensors import SafetensorError
from safetensors.numpy import load, save

from store.blobs import Array
from store.errors import BadImport, StoreError, UnstorableValue

FORMAT = 1
"""The version of the file, the value of `headlamp_runs` in its list."""

LIST = "headlamp-runs.json"

LARGEST = 4 << 30
"""Bytes of the largest member that is read; a unit's arrays, which SQLite holds, stay far below."""

LARGEST_JSON = 1 << 30
"""Bytes of the largest JSON member that is read: it is held in memory whole."""

PIECE = 1 << 20

_RESERVED = "__metadata__"

_MALFORMED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, SafetensorError, EOFError, OSError),
    *(KeyError, TypeError, ValueError, OverflowError, RecursionError, NotImplementedError, RuntimeError),
    StoreError,
)
"""What zipfile, json, safetensors and our own checks raise over a file that is not as it should be."""


def units_member(key: str) -> str:
    """The member with the units of run `key`."""
    return f"{key}/units.json"


def arrays_member(key: str, idx: int) -> str:
    """The member with the arrays of unit `idx` of run `key`."""
    return f"{key}/{idx:04d}.safetensors"


class ArchiveWriter:
    """Writes members one after the other and remembers their digests (`sha256`: member → hexadecimal)."""

    def __init__(self, out: BinaryIO) -> None:
        self.sha256: dict[str, str] = {}
        self._zip = zipfile.ZipFile(out, "w")

    def write_json(self, name: str, value: object) -> None:
        """A member that holds `value`; JSON shrinks to a fraction."""
        text = json.dumps(value, indent=1, allow_nan=False)
        self._write(name, text.encode(), zipfile.ZIP_DEFLATED)

    def write_arrays(self, name: str, arrays: Mapping[str, Array]) -> None:
        """A member that holds `arrays`, stored as they are: numbers hardly shrink, and slowly."""
        if _RESERVED in arrays:
            raise UnstorableValue(f"{name}: safetensors cannot hold an array named {_RESERVED}; rename it")
        self._write(name, save(dict(arrays)), zipfile.ZIP_STORED)

    def close(self) -> None:
        """Write the zip's own list of members."""
        self._zip.close()

    def _write(self, name: str, content: bytes, method: int) -> None:
        self.sha256[name] = hashlib.sha256(content).hexdigest()
        entry = zipfile.ZipInfo(name)
        entry.compress_type, entry.external_attr = method, 0o600 << 16
        self._zip.writestr(entry, content)


class ArchiveReader:
    """Reads members of a file from anywhere; whatever is wrong with it raises inside `malformed`."""

    def __init__(self, source: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(source)

    def read_json(self, name: str, sha256: str | None) -> Any:
        """The value a member holds; its digest is checked where one is given."""
        content = b"".join(self._pieces(name, sha256, LARGEST_JSON))
        return json.loads(content)

    def read_arrays(self, name: str, sha256: str) -> dict[str, Array]:
        """The arrays a member holds."""
        return load(b"".join(self._pieces(name, sha256, LARGEST)))

    def _pieces(self, name: str, sha256: str | None, limit: int) -> Iterator[bytes]:
        entry = self._zip.getinfo(name)
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is packed by method {entry.compress_type}")
        if entry.file_size > limit:
            raise ValueError(f"{name} has {entry.file_size} bytes; at most {limit} are read")
        digest, size = hashlib.sha256(), 0
        with self._zip.open(entry) as member:
            while piece := member.read(PIECE):
                size += len(piece)
                digest.update(piece)
                yield piece
        if size != entry.file_size:
            raise ValueError(f"{name} has {size} bytes instead of {entry.file_size}")
        if sha256 not in (None, digest.hexdigest()):
            raise ValueError(f"{name} is not what was exported: its SHA-256 differs")


@contextmanager
def malformed() -> Iterator[None]:
    """Turn whatever a malformed file raises into BadImport."""
    try:
        yield
    except BadImport:
        raise
    except _MALFORMED as error:
        raise BadImport(
            f"not a sound file of runs ({type(error).__name__}: {str(error)[:200]}); nothing was "
            "imported: export it again, or copy it again if it was cut on the way"
        ) from error
