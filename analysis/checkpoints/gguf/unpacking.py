"""Numbers of quantised tensors, unpacked by the code that transformers calls, in bounded pieces."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from analysis.checkpoints.gguf.contents import PackedTensor
from analysis.checkpoints.stored import Source
from analysis.errors import ModelError, NotAModel

AT_ONCE = 1 << 16
"""Numbers unpacked at once where a tensor can be read in pieces: 256 KiB as float32. Pieces of 1 MiB leave
holes of their size between the weights.
"""

PIECE = 24 * AT_ONCE
"""Bytes that unpacking a piece takes for a while."""

Numbers = np.ndarray[Any, np.dtype[np.float32]]


class Unpacked(Source, Protocol):
    """A parameter that is read from tensors of a GGUF file."""

    @property
    def path(self) -> Path:
        """Its file."""

    @property
    def key(self) -> str:
        """Its name in the model."""

    @property
    def numel(self) -> int:
        """How many numbers it holds."""

    @property
    def stored_bytes(self) -> int:
        """How many bytes it takes in the file."""

    @property
    def unpacking_bytes(self) -> int:
        """Memory that reading it takes beside the parameter itself."""

    @property
    def parts(self) -> tuple[PackedTensor, ...]:
        """The tensors of the file that it is made of."""


@dataclass(frozen=True)
class OfParts:
    """What every parameter has that is made of tensors of a GGUF file. key: its name in the model."""

    key: str
    shape: tuple[int, ...]
    parts: tuple[PackedTensor, ...]

    @property
    def path(self) -> Path:
        """See Unpacked."""
        return self.parts[0].path

    @property
    def dtype(self) -> torch.dtype:
        """See Source: quantised numbers are read as float32."""
        return torch.float32

    @property
    def numel(self) -> int:
        """See Unpacked."""
        return sum(part.numel for part in self.parts)

    @property
    def stored_bytes(self) -> int:
        """See Unpacked."""
        return sum(part.stored_bytes for part in self.parts)


def unpack(packed: bytes | bytearray, kind: str, of: PackedTensor | None = None) -> Numbers:
    """The float32 numbers (n,) of whole blocks of a type, given by its name.

    Raises NotAModel, naming the tensor `of`, if transformers does not dequantise the type.
    """
    from gguf import GGMLQuantizationType, dequantize

    try:
        # one long row: blocks are independent, and gguf treats each 16 rows on their own, which is slow
        blocks = np.frombuffer(packed, np.uint8).reshape(1, -1)
        return dequantize(blocks, GGMLQuantizationType[kind]).reshape(-1)
    except NotImplementedError as error:
        what = "a tensor" if of is None else f"{of.path}: {of.name}"
        raise NotAModel(
            f"{what} is stored as {kind}, which transformers does not dequantise; use a file in "
            "another quantisation"
        ) from error


def read_packed(tensor: PackedTensor, file: BinaryIO, rows: range | None = None) -> bytearray:
    """The bytes of a tensor, or of some slices of its first dimension. Raises ModelError if the file ends too
    early.
    """
    size = tensor.stored_bytes // tensor.shape[0]
    rows = range(tensor.shape[0]) if rows is None else rows
    file.seek(tensor.start + rows.start * size)
    return read_exactly(file, len(rows) * size)


def read_exactly(file: BinaryIO, count: int) -> bytearray:
    """The next bytes of an unbuffered file. Raises ModelError if it ends too early."""
    taken = bytearray(count)
    left = memoryview(taken)
    while left:
        got = file.readinto(left)  # type: ignore[attr-defined]
        if not got:
            raise ModelError(
                f"{file.name} ended while it was read; open the model again once the file is complete"
            )
        left = left[got:]
    return taken


def fill_rows(out: Tensor, tensor: PackedTensor, file: BinaryIO, first: int = 0) -> None:
    """Fill `out`, of any dtype, device and strides, with a tensor's numbers from slice `first` of its first
    dimension on, AT_ONCE at a time.
    """
    file.seek(tensor.start + first * (tensor.stored_bytes // tensor.shape[0]))
    _fill(out, tensor, file)


def unpack_slices(tensor: PackedTensor, file: BinaryIO, rows: range) -> Numbers:
    """Some slices of the first dimension as float32; no more than AT_ONCE numbers are there twice."""
    count = len(rows) * tensor.numel // tensor.shape[0]
    pages = mmap.mmap(-1, 4 * count)  # off the heap, where it would leave a hole between permanent tensors
    out = torch.frombuffer(pages, dtype=torch.float32).view(len(rows), *tensor.shape[1:])
    fill_rows(out, tensor, file, rows.start)
    numbers: Numbers = out.numpy()
    return numbers


def _fill(out: Tensor, tensor: PackedTensor, file: BinaryIO) -> None:
    row = out[0].numel()
    if row > AT_ONCE and out.dim() > 1:
        for part in out:
            _fill(part, tensor, file)
        return
    size = tensor.stored_bytes // (tensor.numel // tensor.shape[-1])  # of one row of the last dimension
    for part in [out] if out.dim() == 1 else out.split(max(1, AT_ONCE // row)):
        count = part.numel() // tensor.shape[-1] * size
        part.copy_(torch.from_numpy(unpack(read_exactly(file, count), tensor.kind)).view(part.shape))
