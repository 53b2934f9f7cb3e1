"""Arrays as blobs: bytes in C order, little-endian, with dtype, shape and checksum. No pickle, no objects."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from store.documents import write_json
from store.errors import DatabaseCorrupt, UnstorableValue

Array = npt.NDArray[Any]

_INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES = frozenset(["bool", *_INTEGERS, "float16", "float32", "float64"])
"""Dtypes that can be stored; others are refused (bfloat16: convert it to float32)."""

MAX_DIMENSIONS = 64
"""The most dimensions of a NumPy array."""

MAX_BYTES = 999_000_000
"""The largest array of a unit, in bytes; SQLite's own limit for a row is 10^9."""


@dataclass(frozen=True)
class Blob:
    """An array as stored: `dtype` a name in DTYPES, `shape` a JSON list, `data` its bytes, and the CRC-32
    of all three; None for an array that an earlier version stored."""

    dtype: str
    shape: str
    data: bytes
    crc32: int | None = None


def encode_blob(array: Array, name: str) -> Blob:
    """Encode `array`, of any memory layout and byte order, as a Blob; `name` identifies it in
    UnstorableValue.
    """
    check_array(array, name)
    data = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes("C")
    dtype, shape = array.dtype.name, write_json(list(array.shape))
    return Blob(dtype, shape, data, _checksum(dtype, shape, data))


def check_array(array: Array, name: str) -> None:
    """Refuse what `encode_blob` would: a dtype not in DTYPES, more than MAX_BYTES. UnstorableValue."""
    if not isinstance(array, np.ndarray) or array.dtype.name not in DTYPES:
        kind = array.dtype.name if isinstance(array, np.ndarray) else type(array).__name__
        raise UnstorableValue(f"array {name!r} is {kind}; convert it to one of {', '.join(sorted(DTYPES))}")
    if array.nbytes > MAX_BYTES:
        raise UnstorableValue(
            f"array {name!r} has {array.nbytes / 1e6:.0f} MB; a unit holds up to {MAX_BYTES / 1e6:.0f} MB: "
            "split it over more units"
        )


def decode_blob(blob: Blob, where: str) -> Array:
    """Decode the array, read-only and without a copy; `where` identifies it in DatabaseCorrupt.

    The checksum detects changed bytes.
    """
    if blob.dtype not in DTYPES:
        raise DatabaseCorrupt(f"{where}: unknown dtype {blob.dtype!r}; {_WAY_OUT}")
    shape, dtype = _shape(blob.shape, where), np.dtype(blob.dtype).newbyteorder("<")
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(blob.data):
        raise DatabaseCorrupt(
            f"{where}: {len(blob.data)} bytes stored, but shape {blob.shape:.80} of {blob.dtype} "
            f"takes {expected}; {_WAY_OUT}"
        )
    if blob.crc32 not in (None, _checksum(blob.dtype, blob.shape, blob.data)):
        raise DatabaseCorrupt(f"{where}: its checksum differs: bytes changed on disk; {_WAY_OUT}")
    try:
        stored: Array = np.ndarray(shape, dtype, buffer=blob.data)
    except (ValueError, OverflowError) as error:  # more dimensions, or larger ones, than NumPy has
        raise DatabaseCorrupt(f"{where}: {blob.shape:.80} is not a shape ({error}); {_WAY_OUT}") from error
    return stored.astype(dtype.newbyteorder("="), copy=False)


_WAY_OUT = "delete the run and run it again"


def _checksum(dtype: str, shape: str, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(f"{dtype} {shape}".encode()))


def _shape(text: str, where: str) -> tuple[int, ...]:
    try:
        shape = json.loads(text)
    except (ValueError, RecursionError):
        shape = None
    if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_size, shape)):
        raise DatabaseCorrupt(f"{where}: {text!r:.80} is not a shape; {_WAY_OUT}")
    return tuple(shape)


def _is_size(size: object) -> bool:
    return type(size) is int and 0 <= size < 2**63
