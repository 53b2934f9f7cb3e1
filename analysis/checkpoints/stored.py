"""Tensors of safetensors files, each read straight to where it is to lie.

Files are read, never mapped: a mapped file stays resident page by page, and whoever rewrites it changes the
weights in use.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import torch
from torch import Tensor

from analysis.errors import ModelError

BUFFER = 1 << 20
"""Bytes read at a time where numbers cannot be read into their place, being of another dtype or device."""

AGAIN = "; fetch or convert the model again"
"""What to do about files that are damaged."""


class Source(Protocol):
    """A tensor whose numbers are written where they are wanted."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""

    def read_into(self, out: Tensor) -> None:
        """Fill `out`, of the same shape but any dtype, device and strides. Raises ModelError."""


@dataclass(frozen=True)
class HeldTensor:
    """One whose file will be gone when it is wanted."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """See Source."""
        return tuple(self.tensor.shape)

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        out.copy_(self.tensor)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint, as the header of its file says. start: where its bytes begin there."""

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
        """Fill `out`, of the same shape but any dtype, device and strides; at most BUFFER bytes beside it.

        Raises ModelError where the file ends too early, OSError where it is gone.
        """
        if tuple(out.shape) != self.shape:
            raise ValueError(f"{self.key} is {self.shape}, not {tuple(out.shape)}")
        with self.path.open("rb", buffering=0) as file:
            file.seek(self.start)
            if self.numel:
                _fill(out.view(1) if out.dim() == 0 else out, self.dtype, cast(BinaryIO, file))

    def held(self) -> HeldTensor:
        """The same, read now."""
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
    pages = mmap.mmap(-1, rows * row)  # off the heap, where it would leave a hole between tensors that stay
    buffer = torch.frombuffer(pages, dtype=dtype).view(rows, *out.shape[1:])
    for part in out.split(rows):
        _read(buffer[: len(part)], file)
        part.copy_(buffer[: len(part)])


def _read(into: Tensor, file: BinaryIO) -> None:
    """Read a contiguous tensor of the CPU from where the file stands."""
    left = memoryview(into.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
    while left:
        count = file.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise ModelError(f"{file.name} ended while it was read; open it again when it is whole")
        left = left[count:]
