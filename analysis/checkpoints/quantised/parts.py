"""A weight that is stored as several tensors, dequantised piece by piece while it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from analysis.checkpoints.stored import HeldTensor, StoredTensor

AT_ONCE = 1 << 16
"""Numbers dequantised at once: 256 KiB as float32, as of a GGUF file."""

PIECE = 4 * 48 * AT_ONCE
"""Bytes that dequantising a piece takes for a while: 48 a number, and some pieces are larger, since no part
of a row is read alone.
"""

Part = StoredTensor | HeldTensor
"""One of the tensors of a weight: in its file, or in memory."""


@dataclass(frozen=True)
class DequantisedTensor(ABC):
    """A parameter that is stored as several tensors. key: its checkpoint key, as an unquantised checkpoint
    has it. parts: each tensor by its role, such as "weight" and "scale".
    """

    outputs_first: ClassVar[bool] = False
    """Whether its shape is (outputs, inputs) whatever its layer's was: the format has layers of its own."""

    key: str
    parts: Mapping[str, Part]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """See Source: the shape of its numbers. Raises NotAModel if the parts contradict each other."""

    @abstractmethod
    def read_into(self, out: Tensor) -> None:
        """See Source."""

    @property
    def dtype(self) -> torch.dtype:
        """See Source: the numbers are computed as float32."""
        return torch.float32

    @property
    def path(self) -> Path:
        """The file of its first part; an empty path where all parts are in memory."""
        return next((part.path for part in self.parts.values() if isinstance(part, StoredTensor)), Path())

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)

    @property
    def stored_bytes(self) -> int:
        """How many bytes its parts take in their files."""
        return sum(prod(part.shape) * part.dtype.itemsize for part in self.parts.values())

    @property
    def unpacking_bytes(self) -> int:
        """Memory that reading it takes beside the parameter itself: a piece, and all parts but the packed
        numbers, widened.
        """
        packed = max(prod(part.shape) * part.dtype.itemsize for part in self.parts.values())
        return PIECE + 8 * (self.stored_bytes - packed)

    def _require_shape(self, out: Tensor) -> None:
        if tuple(out.shape) != self.shape:
            raise ValueError(f"{self.key} is {self.shape}, not {tuple(out.shape)}")


@dataclass(frozen=True)
class TransposedTensor:
    """A matrix for a parameter (inputs, outputs), stored as (outputs, inputs)."""

    source: DequantisedTensor

    @property
    def shape(self) -> tuple[int, ...]:
        """See Source."""
        return self.source.shape[::-1]

    @property
    def dtype(self) -> torch.dtype:
        """See Source."""
        return self.source.dtype

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        self.source.read_into(out.T)


def read_part(part: Part) -> Tensor:
    """The numbers of a part as they are stored."""
    out = torch.empty(part.shape, dtype=part.dtype)
    part.read_into(out)
    return out


def split_rows(rows: int, numbers: int, multiple: int = 1) -> Iterator[range]:
    """Split rows of `numbers` numbers each into pieces of about AT_ONCE numbers, but for the last of a
    multiple of `multiple` rows.
    """
    step = max(1, AT_ONCE // max(1, numbers * multiple)) * multiple
    for first in range(0, rows, step):
        yield range(first, min(first + step, rows))
