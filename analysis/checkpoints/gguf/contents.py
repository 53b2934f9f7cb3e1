"""What the header of a GGUF file says: metadata by key, and tensors with the places of their bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Field:
    """A key of the metadata. value: a number, a text, a short list of numbers, or, of a list that is longer
    or of texts, its length. start, end: the bytes of the entry in the file. listed: whether it is a list.
    """

    value: Any
    start: int
    end: int
    listed: bool = False


@dataclass(frozen=True)
class PackedTensor:
    """A tensor of the file. shape: in torch's order. kind: the name of its type. start: offset of its
    bytes.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    kind: str
    start: int
    stored_bytes: int

    @property
    def key(self) -> str:
        """Its name in the file, as StoredTensor has one."""
        return self.name

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself: metadata by key, tensors by name in the file's order."""

    path: Path
    fields: Mapping[str, Field]
    tensors: Mapping[str, PackedTensor]

    def value(self, key: str) -> Any:
        """A value of the metadata, None if there is none."""
        field = self.fields.get(key)
        return None if field is None else field.value

    @cached_property
    def architecture(self) -> str:
        """The architecture, as llama.cpp names it."""
        return str(self.value("general.architecture"))
