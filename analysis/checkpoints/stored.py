"""Tensors of safetensors files, each read straight to its destination.

Files are read, never mapped: mapped pages stay resident, and rewriting the file would change the weights
in use.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import torch
from torch import Tensor

from analysis.errors import ModelError

BUFFER = 1 << 20
"""Read buffer in bytes, used if dtype or device differ from the destination's."""

AGAIN = "; download or convert the model again"
"""Advice for damaged files."""


class Source(Protocol):
    """A tensor that can be read into a given destination."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its numbers as they are stored."""

    def read_into(self, out: Tensor) -> None:
        """Fill `out`, of the same shape but any dtype, device and strides. Raises ModelError."""


@dataclass(frozen=True)
class HeldTensor:
    """A tensor in memory, for a file that will be deleted."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """See Source."""
        return tuple(self.tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """See Source."""
        return self.tensor.dtype

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        out.copy_(self.tensor)

    def rows(self, rows: range) -> HeldTensor:
        """Some neighbouring slices of its first dimension."""
        return HeldTensor(self.tensor[rows.start : rows.stop])

    def reshape(self, shape: tuple[int, ...]) -> HeldTensor:
        """The same numbers in another shape."""
        return HeldTensor(self.tensor.reshape(shape))


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, from its file's header. start: offset of its bytes."""

    key: str
    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """How many bytes it takes in its file."""
        return self.numel * self.dtype.itemsize

    def read_into(self, out: Tensor) -> None:
        """Fill `out`, of the same shape but any dtype, device and strides; using at most BUFFER extra bytes.

        Raises ModelError if the file ends too early, OSError if it is gone.
        """
        if tuple(out.shape) != self.shape:
            raise ValueError(f"{self.key} is {self.shape}, not {tuple(out.shape)}")
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            if self.numel:
                _fill(out.view(1) if out.dim() == 0 else out, self.dtype, cast(BinaryIO, file))

    def rows(self, rows: range) -> StoredTensor:
        """Some neighbouring slices of its first dimension; nothing is read."""
        size = self.stored_bytes // self.shape[0]
        return replace(self, shape=(len(rows), *self.shape[1:]), start=self.start + rows.start * size)

    def reshape(self, shape: tuple[int, ...]) -> StoredTensor:
        """The same numbers in another shape; nothing is read."""
        return replace(self, shape=shape)

    def load(self) -> HeldTensor:
        """Read the tensor into memory now."""
        out = torch.empty(self.shape, dtype=self.dtype)
        self.read_into(out)
        return HeldTensor(out)


def _fill(out: Tensor, dtype: torch.dtype, file: BinaryIO) -> None:
    if out.dtype == dtype and out.is_contiguous() and out.device.type == "cpu":
        _read(out, file)
        return
    row = out[0].numel() * dtype.itemsize
    if row > BUFFER:
        for part in out:
            _fill(part, dtype, file)
        return
    rows = min(BUFFER // row, len(out))
    pages = mmap.mmap(-1, rows * row)  # off the heap, where it would leave a hole between permanent tensors
    buffer = torch.frombuffer(pages, dtype=dtype).view(rows, *out.shape[1:])
    for part in out.split(rows):
        _read(buffer[: len(part)], file)
        part.copy_(buffer[: len(part)])


def _read(into: Tensor, file: BinaryIO) -> None:
    """Read a contiguous CPU tensor from the file's current position."""
    left = memoryview(into.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    while left:
        count = file.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise ModelError(
                f"{file.name} ended while it was read; open the model again once the file is complete"
            )
        left = left[count:]
