"""Contents of a checkpoint, read from its files' headers and checked against the files.

A safetensors file is 8 bytes with the length of its header, the header as JSON, and the tensors' bytes
without gaps (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from analysis.checkpoints.stored import AGAIN, StoredTensor
from analysis.checkpoints.weight_files import find_weight_files
from analysis.errors import NotAModel

_LONGEST_HEADER = 100_000_000  # the format's own limit
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
}


def read_stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Read key → tensor of the files that `find_weight_files` chooses, from headers alone.

    Raises NotAModel for a file that is missing, truncated or inconsistent: see `read_header`.
    """
    files = find_weight_files(folder)
    found: dict[str, StoredTensor] = {}
    for name in files.names:
        header = read_header(folder / name)
        _require_assigned(folder / name, header, [k for k, file in files.assigned.items() if file == name])
        for key in header.keys() & found.keys():
            # transformers takes the last file that has a key, whatever the index says
            if files.assigned.get(key) != name:
                raise NotAModel(
                    f"{folder}: both {found[key].path.name} and {name} contain {key}, and its index does not "
                    f"mean the second{AGAIN}"
                )
        found |= header
    return found


def read_file_tensors(path: Path, keys: Collection[str]) -> dict[str, StoredTensor]:
    """Read the tensors that an index assigns to a file. Raises NotAModel as `read_header` and
    `select_tensors`.
    """
    return select_tensors(path, read_header(path), keys)


def select_tensors(
    path: Path, found: Mapping[str, StoredTensor], keys: Collection[str]
) -> dict[str, StoredTensor]:
    """Select the tensors that an index assigns to a file from its header. Raises NotAModel if one lacks."""
    _require_assigned(path, found, keys)
    return {key: found[key] for key in keys}


def _require_assigned(path: Path, found: Mapping[str, StoredTensor], keys: Collection[str]) -> None:
    for key in keys:
        if key not in found:
            held_by = f"its index assigns {key} to {path.name}, which does not contain it"
            raise NotAModel(f"{path.parent}: {held_by}{AGAIN}")


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Read key → tensor of one file. Raises NotAModel for a header that cannot be true.

    That is, one that is unreadable or longer than the file, whose byte ranges contradict a tensor's shape and
    dtype, overlap, leave a gap, or do not end with the file.
    """
    try:
        length, header = _raw_header(path)
        size = path.stat().st_size - 8 - length
    except (OSError, ValueError, struct.error) as error:
        raise NotAModel(f"{path} cannot be read as safetensors ({error}){AGAIN}") from error
    return parse_header(path, header, 8 + length, size)


def parse_header(
    path: Path, header: Mapping[str, Any], start: int = 0, size: int | None = None
) -> dict[str, StoredTensor]:
    """Parse a header into key → tensor. Raises NotAModel as `read_header`.

    start, size: offset and total size of the tensors' bytes; None if the file is not here.
    """
    try:
        entries = {key: _entry(entry) for key, entry in header.items() if key != "__metadata__"}
    except (ValueError, LookupError, TypeError) as error:
        raise NotAModel(f"{path} cannot be read as safetensors ({error}){AGAIN}") from error
    _check(path, entries, size)
    return {
        key: StoredTensor(key, path, _DTYPES[dtype], shape, start + begin)
        for key, (dtype, shape, begin, _) in entries.items()
    }


_Entry = tuple[str, tuple[int, ...], int, int]
"""dtype, shape, and the byte range, counted from the end of the header."""


def _raw_header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError("it has no header")
        text = file.read(length)
    if len(text) < length:
        raise NotAModel(f"{path} is truncated within its header{AGAIN}")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    return length, header


def _entry(entry: Any) -> _Entry:
    start, end = entry["data_offsets"]
    numbers = (*entry["shape"], start, end)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("shapes and offsets must be whole numbers from 0")
    return str(entry["dtype"]), tuple(entry["shape"]), start, end


def _check(path: Path, entries: Mapping[str, _Entry], size: int | None) -> None:
    last, reached = "", 0
    for key, (dtype, shape, start, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if dtype not in _DTYPES:
            raise NotAModel(
                f"{path}: {key} is stored as {dtype}, which Headlamp does not read; use the original model"
            )
        needed = math.prod(shape) * _DTYPES[dtype].itemsize
        if end - start != needed:
            raise NotAModel(
                f"{path}: its header gives {key} {end - start:,} bytes, but {dtype} of shape {list(shape)} "
                f"takes {needed:,}{AGAIN}"
            )
        if start < reached:
            raise NotAModel(f"{path}: its header has {last} and {key} share bytes{AGAIN}")
        if start > reached:
            raise NotAModel(f"{path}: its header leaves a gap before {key}{AGAIN}")
        last, reached = key, end
    if size is None:
        return
    if reached > size:
        raise NotAModel(
            f"{path} is truncated: its header lists {reached:,} bytes of weights, it has {size:,}{AGAIN}"
        )
    if reached < size:
        raise NotAModel(f"{path} has {size - reached:,} bytes that its header does not list{AGAIN}")
