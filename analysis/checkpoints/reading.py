"""Where a model's weights are stored: in a local folder, or shard by shard at the Hub (`hub_shards`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from analysis.checkpoints.fingerprint import stamp
from analysis.checkpoints.gguf.description import describe_weights
from analysis.checkpoints.gguf.header import read_gguf_header
from analysis.checkpoints.gguf.tensors import map_gguf_tensors
from analysis.checkpoints.gguf.unpacking import Unpacked
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.quantised.parts import DequantisedTensor
from analysis.checkpoints.quantised.weights import join_tensors, read_quantisation
from analysis.checkpoints.stored import Source, StoredTensor
from analysis.errors import ModelError


class Checkpoint(Protocol):
    """A source of a model's weights."""

    def keys(self) -> Mapping[str, tuple[Path, ...]]:
        """Checkpoint key → its files, which may still be at the Hub: several where a weight's scale lies in
        another.
        """

    def reading(
        self, group: str, keys: Mapping[str, tuple[Path, ...]]
    ) -> AbstractContextManager[Mapping[str, Source]]:
        """The tensors of a group's checkpoint keys while the body runs. Raises ModelError."""

    def equal(self, first: str, second: str, dtype: torch.dtype) -> bool:
        """Whether two tensors, by their keys, hold the same numbers in a dtype; False where only fetching
        them could tell.
        """


WeightSource = StoredTensor | DequantisedTensor | Unpacked
"""A weight in its files, stored in one tensor or to be dequantised of several."""


def read_tensors(path: Path, model: PreTrainedModel) -> Mapping[str, WeightSource]:
    """The weights of a local folder or GGUF file by checkpoint key, from headers alone; none is read.

    model: the one they are for, which may be without weights. Raises NotAModel for damaged or unknown files.
    """
    if path.is_file():
        return map_gguf_tensors(read_gguf_header(path), model)
    return join_tensors(path, read_stored_tensors(path), read_quantisation(path))


def describe_format(path: Path) -> str:
    """How the weights of a folder or GGUF file are stored, if they are dequantised while they are read."""
    if path.is_file():
        return describe_weights(read_gguf_header(path))
    quantisation = read_quantisation(path)
    return "" if quantisation is None else quantisation.describe()


class LocalCheckpoint:
    """A local folder or GGUF file, which must not change while it is in use."""

    def __init__(self, folder: Path, model: PreTrainedModel) -> None:
        self._folder, self._stamp, self._tensors = folder, stamp(folder), read_tensors(folder, model)

    def keys(self) -> Mapping[str, tuple[Path, ...]]:
        """See Checkpoint."""
        return {key: (tensor.path,) for key, tensor in self._tensors.items()}

    @contextmanager
    def reading(self, group: str, keys: Mapping[str, tuple[Path, ...]]) -> Iterator[Mapping[str, Source]]:
        """See Checkpoint."""
        if stamp(self._folder) != self._stamp:
            raise ModelError(
                f"{self._folder} was changed while it was read; open the model again once nothing writes to "
                "it"
            )
        yield {key: self._tensors[key] for key in keys}

    def equal(self, first: str, second: str, dtype: torch.dtype) -> bool:
        """See Checkpoint."""
        return are_equal(self._tensors[first], self._tensors[second], dtype)


def are_equal(one: Source, other: Source, dtype: torch.dtype) -> bool:
    """Whether two tensors hold the same numbers in a dtype; reads both."""
    return one.shape == other.shape and torch.equal(_load(one, dtype), _load(other, dtype))


def _load(tensor: Source, dtype: torch.dtype) -> Tensor:
    out = torch.empty(tensor.shape, dtype=dtype)
    tensor.read_into(out)
    return out
