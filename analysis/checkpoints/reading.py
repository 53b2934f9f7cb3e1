"""Where the weights of a model lie: in a folder here, or shard by shard at the Hub (`hub_shards`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from analysis.checkpoints.fingerprint import stamp
from analysis.checkpoints.headers import stored_tensors
from analysis.checkpoints.stored import Source
from analysis.errors import ModelError


class Checkpoint(Protocol):
    """Where the weights of a model lie."""

    def keys(self) -> Mapping[str, Path]:
        """Checkpoint key → its file, which need not be here."""

    def reading(self, group: str, keys: Mapping[str, Path]) -> AbstractContextManager[Mapping[str, Source]]:
        """The tensors of a group's checkpoint keys while the body runs. Raises ModelError."""


class LocalCheckpoint:
    """A folder on this machine, which must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stamp, self._tensors = folder, stamp(folder), stored_tensors(folder)

    def keys(self) -> Mapping[str, Path]:
        """See Checkpoint."""
        return {key: tensor.path for key, tensor in self._tensors.items()}

    @contextmanager
    def reading(self, group: str, keys: Mapping[str, Path]) -> Iterator[Mapping[str, Source]]:
        """See Checkpoint."""
        if stamp(self._folder) != self._stamp:
            raise ModelError(f"{self._folder} was changed while it was read; open it again when that is done")
        yield {key: self._tensors[key] for key in keys}
