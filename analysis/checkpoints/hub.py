"""A Hub model without its weights: its small files, and what the Hub says of every shard.

What it says is asked once and kept beside the files, since a commit never changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from analysis.checkpoints.fingerprint import HashCache, combined, file_hash, identity_files
from analysis.checkpoints.headers import INDEX, chosen, read_index, told
from analysis.checkpoints.hub_errors import explained
from analysis.checkpoints.stored import StoredTensor
from analysis.errors import NotAModel

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
_AT_ONCE = 8
"""Headers asked for at the same time."""


@dataclass(frozen=True)
class Shard:
    """A file of weights, as the Hub lists it. bytes: its size."""

    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class HubModel:
    """A model at the Hub at one commit.

    folder: its configuration and tokenizer, in the Hub's own cache. names: all its files. shards: those of
    weights. keys: checkpoint key → shard.
    """

    name: str
    folder: Path
    names: frozenset[str]
    shards: Mapping[str, Shard]
    keys: Mapping[str, str]

    @property
    def commit(self) -> str:
        """The commit, 40 hexadecimal digits."""
        return self.folder.name

    @property
    def passing(self) -> Path:
        """Where shards lie that are deleted after use: in the cache, apart from what other programs keep."""
        return self.folder.parents[1] / "headlamp" / self.commit

    def fingerprint(self, hashes: HashCache | None = None) -> str:
        """The fingerprint that a folder with all its files has, from the Hub's SHA-256 of each shard."""
        small = {path.name: file_hash(path, hashes) for path in identity_files(self.folder, weights=False)}
        return combined(small | {name: shard.sha256 for name, shard in self.shards.items()})

    def tensors(self) -> dict[str, StoredTensor]:
        """Checkpoint key → what its shard's header says of it; of the shards no more than that is fetched.

        Raises FetchFailed, ModelNotFound, and NotAModel for a header that cannot be true of its shard.
        """
        headers = _headers(self.name, self.folder, set(self.keys.values()))
        found: dict[str, StoredTensor] = {}
        for name, header in headers.items():
            tensors = told(self.folder / name, header)
            told_of, size = sum(tensor.stored_bytes for tensor in tensors.values()), self.shards[name].bytes
            if told_of >= size:
                raise NotAModel(
                    f"{name} of {self.name} is cut off at the Hub: its header tells of {told_of:,} bytes of "
                    f"weights, it has {size:,} in all; tell its authors, or take another revision"
                )
            found |= chosen(self.folder / name, tensors, [k for k, file in self.keys.items() if file == name])
        return found


def hub_model(name: str, revision: str | None = None) -> HubModel:
    """Fetch what says what a Hub model is: its small files, and the list of all. No shard is fetched.

    What was fetched before is not fetched again; without a network it is enough. Raises ModelNotFound,
    FetchFailed, NotAModel.
    """
    with explained(name, "the configuration"):
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES, ignore_patterns=["*/*"])
        )
        listed = _kept(folder, "files", lambda: _listed(name, folder.name))
    shards = {file: Shard(**entry) for file, entry in listed["shards"].items()}
    if (folder / INDEX).is_file():
        keys = read_index(folder / INDEX)
    else:
        keys = {key: file for file, header in _headers(name, folder, shards).items() for key in header}
    missing = sorted(set(keys.values()) - set(shards))
    if missing:
        raise NotAModel(
            f"{name}: its index names {missing[0]}, which is not among its files at the Hub; "
            "tell its authors, or take another revision"
        )
    return HubModel(name, folder, frozenset(listed["names"]), shards, keys)


def _kept(folder: Path, what: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the Hub says of a commit: as it was kept, else asked now and kept."""
    path = folder.parents[1] / "headlamp" / f"{folder.name}.{what}.json"
    with suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    found = ask()
    with suppress(OSError):  # it is asked again then
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(path)
    return found


def _listed(name: str, commit: str) -> dict[str, Any]:
    listed = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    files = {file.rfilename: file for file in listed if "/" not in file.rfilename}
    weights = [f for f in files if f.endswith(".safetensors") and not f.startswith("consolidated")]
    shards = {}
    for file in weights:
        lfs = files[file].lfs
        if lfs is None:  # too small for the Hub to keep a digest of
            path = Path(hf_hub_download(name, file, revision=commit))
            shards[file] = {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        else:
            shards[file] = {"bytes": lfs.size, "sha256": lfs.sha256}
    return {"names": sorted(files), "shards": shards}


def _headers(name: str, folder: Path, shards: Collection[str]) -> dict[str, Any]:
    """Shard → its header: key → dtype, shape and where its bytes lie."""

    def ask(shard: str) -> dict[str, Any]:
        header = HfApi().parse_safetensors_file_metadata(name, shard, revision=folder.name)
        return {key: asdict(tensor) for key, tensor in header.tensors.items()}

    def ask_all() -> dict[str, Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(sorted(shards), pool.map(ask, sorted(shards)), strict=True))

    with explained(name, "a header"):
        return _kept(folder, "headers", ask_all)
