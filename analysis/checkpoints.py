"""Where the weights of a model lie: safetensors files, read tensor by tensor.

Files are read, never mapped: a mapped file stays resident page by page, and whoever rewrites it changes the
weights in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open

from analysis.errors import ModelError
from analysis.fingerprint import stamp


class Checkpoint(Protocol):
    """Where the weights of a model lie."""

    def keys(self) -> Mapping[str, Path]:
        """Checkpoint key → its file."""

    def reading(self, group: str, keys: Mapping[str, Path]) -> AbstractContextManager[Mapping[str, Any]]:
        """The tensors of a group's checkpoint keys while the body runs. Raises ModelError."""


class LocalCheckpoint:
    """A folder on this machine, which must stay as it is."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stamp = folder, stamp(folder)

    def keys(self) -> Mapping[str, Path]:
        """See Checkpoint."""
        return checkpoint_keys(self._folder)

    def reading(self, group: str, keys: Mapping[str, Path]) -> AbstractContextManager[Mapping[str, Any]]:
        """See Checkpoint."""
        if stamp(self._folder) != self._stamp:
            raise ModelError(f"{self._folder} was changed while it was read; open it again when that is done")
        return slices(keys)


@contextmanager
def slices(keys: Mapping[str, Path]) -> Iterator[dict[str, Any]]:
    """The tensors of some checkpoint keys, each read into memory of its own when it is indexed."""
    with ExitStack() as stack:
        files = {path: stack.enter_context(_opened(path)) for path in set(keys.values())}
        yield {key: files[path].get_slice(key) for key, path in keys.items()}


def checkpoint_keys(folder: Path) -> dict[str, Path]:
    """Checkpoint key → its file, of a single-file or a sharded checkpoint."""
    listed = folder / "model.safetensors.index.json"
    if listed.is_file():
        shards = json.loads(listed.read_text(encoding="utf-8"))["weight_map"]
        return {key: folder / Path(name).name for key, name in shards.items()}
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with _opened(path) as file:
            found |= dict.fromkeys(file.keys(), path)
    return found


def _opened(path: Path) -> Any:
    """A safetensors file whose tensors are read, not mapped. Raises ModelError for a damaged one."""
    try:
        return safe_open(path, framework="pt", backend="pread")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} could not be loaded: {error}; fetch or convert the model again") from error
