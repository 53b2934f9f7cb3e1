"""What a checkpoint holds, by the headers of its files, which are checked against the files themselves.

A safetensors file is 8 bytes that say how long its header is, the header as JSON, and the tensors' bytes, one
after the other without a gap (https://github.com/huggingface/safetensors#format).
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
from analysis.errors import NotAModel

INDEX = "model.safetensors.index.json"
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
}


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Key → tensor, of a single-file or a sharded checkpoint, from headers alone.

    Raises NotAModel for a file that is missing, cut off or at odds with itself: see `read_header`.
    """
    listed = _listed(folder)
    if listed is None:
        paths = sorted(folder.glob("*.safetensors"))
        return {key: tensor for path in paths for key, tensor in read_header(path).items()}
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(listed.values())):
        found |= tensors_of(folder / name, [key for key, file in listed.items() if file == name])
    return found


def tensors_of(path: Path, keys: Collection[str]) -> dict[str, StoredTensor]:
    """Those tensors of a file that an index has in it. Raises NotAModel as `read_header` and `chosen`."""
    return chosen(path, read_header(path), keys)


def chosen(path: Path, found: Mapping[str, StoredTensor], keys: Collection[str]) -> dict[str, StoredTensor]:
    """Those tensors of a file's header that an index has in it. Raises NotAModel for one it has not."""
    for key in keys:
        if key not in found:
            held_by = f"its index has {key} in {path.name}, which does not hold it"
            raise NotAModel(f"{path.parent}: {held_by}{AGAIN}")
    return {key: found[key] for key in keys}


def _listed(folder: Path) -> dict[str, str] | None:
    """Key → file name, as the index of a sharded checkpoint says; None where there is no index."""
    if not (folder / INDEX).is_file():
        return None
    listed = read_index(folder / INDEX)
    for name in sorted(set(listed.values())):
        if not (folder / name).is_file():
            raise NotAModel(f"{folder}: its index names {name}, which is not there{AGAIN}")
    return listed


def read_index(path: Path) -> dict[str, str]:
    """Key → file name, as the index of a sharded checkpoint says. Raises NotAModel for a damaged one."""
    try:
        return {str(k): Path(name).name for k, name in json.loads(path.read_bytes())["weight_map"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotAModel(f"{path} is no index of weights ({error}){AGAIN}") from error


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Key → tensor, of one file. Raises NotAModel where the header cannot be true of it.

    That is: where it cannot be read, is longer than the file, gives a tensor other bytes than its shape and
    dtype take, or bytes of another tensor, or leaves a gap, or ends elsewhere than the file.
    """
    try:
        length, header = _raw_header(path)
        size = path.stat().st_size - 8 - length
    except (OSError, ValueError, struct.error) as error:
        raise NotAModel(f"{path} cannot be read as safetensors ({error}){AGAIN}") from error
    return told(path, header, 8 + length, size)


def told(
    path: Path, header: Mapping[str, Any], start: int = 0, size: int | None = None
) -> dict[str, StoredTensor]:
    """Key → tensor, as a file's header has it. Raises NotAModel as `read_header`.

    start, size: where in the file tensors begin, and the bytes they have; None where it is not here.
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
"""dtype, shape, and where its bytes begin and end, counted from the end of the header."""


def _raw_header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER:
            raise ValueError("it begins with no header")
        text = file.read(length)
    if len(text) < length:
        raise NotAModel(f"{path} is cut off within its header{AGAIN}")
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
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
                f"{path}: {key} is stored as {dtype}; Headlamp reads float32, bfloat16 and float16: "
                "give the model it was made from"
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
            f"{path} is cut off: its header tells of {reached:,} bytes of weights, it has {size:,}{AGAIN}"
        )
    if reached < size:
        raise NotAModel(f"{path} has {size - reached:,} bytes that its header does not tell of{AGAIN}")
