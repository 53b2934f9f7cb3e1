"""A Hub model without its weights: its small files, and the Hub's metadata of each shard.

The metadata is fetched once and stored beside the files, since a commit never changes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from analysis.checkpoints.fingerprint import HashCache, combine_digests, hash_file, identity_files
from analysis.checkpoints.headers import parse_header, select_tensors
from analysis.checkpoints.hub_errors import explain_hub_errors
from analysis.checkpoints.stored import StoredTensor
from analysis.checkpoints.weight_files import WeightFiles, choose_weight_files, read_index, read_stated_file
from analysis.errors import NotAModel

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
_AT_ONCE = 8
"""Headers requested in parallel."""


@dataclass(frozen=True)
class Shard:
    """A file of weights, as the Hub lists it. bytes: its size."""

    bytes: int
    sha256: str


@dataclass(frozen=True, eq=False)
class HubModel:
    """A model at the Hub at one commit.

    folder: its configuration and tokenizer, in the Hub's own cache. names: all its files. files: which of
    them are its weights, as `choose_weight_files` chooses. shards: size and digest of each of those.
    """

    name: str
    folder: Path
    names: frozenset[str]
    files: WeightFiles
    shards: Mapping[str, Shard]

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """Checkpoint key → shard. Without an index the shards' headers are fetched. Raises FetchFailed."""
        if self.files.index is not None:
            return self.files.assigned
        headers = _headers(self.name, self.folder, self.files.names)
        return {key: file for file, header in headers.items() for key in header}

    @property
    def commit(self) -> str:
        """The commit, 40 hexadecimal digits."""
        return self.folder.name

    @property
    def passing(self) -> Path:
        """Folder for shards that are deleted after use: in the cache, apart from other programs' files."""
        return self.folder.parents[1] / "headlamp" / self.commit

    def fingerprint(self, hashes: HashCache | None = None) -> str:
        """The fingerprint of a folder with all its files, from the Hub's SHA-256 of each shard."""
        small = identity_files(self.folder, weights=False)
        if self.files.index is not None:
            small[self.files.index] = self.folder / self.files.index
        digests = {name: hash_file(path, hashes) for name, path in small.items()}
        return combine_digests(digests | {name: shard.sha256 for name, shard in self.shards.items()})

    def tensors(self) -> dict[str, StoredTensor]:
        """Checkpoint key → entry of its shard's header; nothing else of the shards is fetched.

        Raises FetchFailed, ModelNotFound, and NotAModel for a header inconsistent with its shard.
        """
        headers = _headers(self.name, self.folder, set(self.keys.values()))
        found: dict[str, StoredTensor] = {}
        for name, header in headers.items():
            tensors = parse_header(self.folder / name, header)
            told_of, size = sum(tensor.stored_bytes for tensor in tensors.values()), self.shards[name].bytes
            if told_of >= size:
                raise NotAModel(
                    f"{name} of {self.name} is truncated at the Hub: its header lists {told_of:,} bytes of "
                    f"weights, it has {size:,} in all; tell its authors, or take another revision"
                )
            found |= select_tensors(
                self.folder / name, tensors, [k for k, file in self.keys.items() if file == name]
            )
        return found


def hub_model(name: str, revision: str | None = None) -> HubModel:
    """Fetch a Hub model's small files and its file list. No shard is fetched.

    Files fetched before are reused, also offline. Raises ModelNotFound,
    FetchFailed, NotAModel.
    """
    with explain_hub_errors(name, "the configuration"):
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES, ignore_patterns=["*/*"])
        )
        listed = _read_metadata(folder, "contents", lambda: _list_files(name, folder.name))
    files = choose_weight_files(
        name, listed["names"], lambda index: read_index(folder / index), read_stated_file(folder)
    )
    missing = sorted(set(files.names) - set(listed["weights"]))
    if missing:
        raise NotAModel(
            f"{name}: its index names {missing[0]}, which is not among its files at the Hub; "
            "tell its authors, or take another revision"
        )
    shards = {file: _read_shard(name, folder, file, listed["weights"][file]) for file in files.names}
    return HubModel(name, folder, frozenset(listed["names"]), files, shards)


def _read_metadata(folder: Path, what: str, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The Hub's metadata of a commit: stored, else fetched and stored."""
    path = folder.parents[1] / "headlamp" / f"{folder.name}.{what}.json"
    with suppress(OSError, ValueError):
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    found = ask()
    with suppress(OSError):  # it is requested again then
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(path)
    return found


def _list_files(name: str, commit: str) -> dict[str, Any]:
    """names: all files. weights: of each *.safetensors, its size and SHA-256, or None where the Hub lists
    none.
    """
    listed = HfApi().model_info(name, revision=commit, files_metadata=True).siblings or []
    weights = {file.rfilename: file.lfs for file in listed if file.rfilename.endswith(".safetensors")}
    return {
        "names": sorted(file.rfilename for file in listed),
        "weights": {
            file: None if lfs is None else {"bytes": lfs.size, "sha256": lfs.sha256}
            for file, lfs in weights.items()
        },
    }


def _read_shard(name: str, folder: Path, file: str, listed: dict[str, Any] | None) -> Shard:
    """A shard's size and digest; one too small for the Hub to list a digest is fetched."""
    if listed is not None:
        return Shard(**listed)
    with explain_hub_errors(name, file):
        path = Path(hf_hub_download(name, file, revision=folder.name))
    return Shard(path.stat().st_size, hash_file(path))


def _headers(name: str, folder: Path, shards: Collection[str]) -> dict[str, Any]:
    """Shard → its header: key → dtype, shape and where its bytes lie."""

    def ask(shard: str) -> dict[str, Any]:
        header = HfApi().parse_safetensors_file_metadata(name, shard, revision=folder.name)
        return {key: asdict(tensor) for key, tensor in header.tensors.items()}

    def ask_all() -> dict[str, Any]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(sorted(shards), pool.map(ask, sorted(shards)), strict=True))

    with explain_hub_errors(name, "a header"):
        return _read_metadata(folder, "headers", ask_all)
