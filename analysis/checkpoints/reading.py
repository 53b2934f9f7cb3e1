"""Where a model's weights are stored: in a local folder, or shard by shard at the Hub (`hub_shards`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from analysis.checkpoints.fingerprint import stamp
from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.stored import Source
from analysis.errors import ModelError


class Checkpoint(Protocol):
    """A source of a model's weights."""

    def keys(self) -> Mapping[str, Path]:
        """Checkpoint key → its file, which may still be at the Hub."""

    def reading(self, group: str, keys: Mapping[str, Path]) -> AbstractContextManager[Mapping[str, Source]]:
        """The tensors of a group's checkpoint keys while the body runs. Raises ModelError."""


class LocalCheckpoint:
    """A local folder, which must not change while it is in use."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stamp, self._tensors = folder, stamp(folder), read_stored_tensors(folder)

    def keys(self) -> Mapping[str, Path]:
        """See Checkpoint."""
        return {key: tensor.path for key, tensor in self._tensors.items()}

    @contextmanager
    def reading(self, group: str, keys: Mapping[str, Path]) -> Iterator[Mapping[str, Source]]:
        """See Checkpoint."""
        if stamp(self._folder) != self._stamp:
            raise ModelError(
                f"{self._folder} was changed while it was read; open the model again once nothing writes to "
                "it"
            )
        yield {key: self._tensors[key] for key in keys}
