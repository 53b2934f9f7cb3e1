"""A Hub model without its weights: its small files, and what the Hub says of every shard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, snapshot_download

from analysis.errors import NotAModel
from analysis.fingerprint import HashCache, combined, file_hash, identity_files
from analysis.hub_errors import explained

INDEX = "model.safetensors.index.json"
SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Shard:
    """A file of weights, as the Hub lists it. bytes: its size."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
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


def hub_model(name: str, revision: str | None = None) -> HubModel:
    """Fetch what says what a Hub model is: its small files, and the list of all. No shard is fetched.

    What was fetched before is not fetched again; without a network it is enough. Raises ModelNotFound,
    FetchFailed, NotAModel.
    """
    with explained(name, "the configuration"):
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=SMALL_FILES, ignore_patterns=["*/*"])
        )
        listed = _listed(name, folder)
    shards = {file: Shard(**entry) for file, entry in listed["shards"].items()}
    keys = listed["keys"] if listed["keys"] is not None else _indexed(folder)
    missing = sorted(set(keys.values()) - set(shards))
    if missing:
        raise NotAModel(
            f"{name}: its index names {missing[0]}, which is not among its files at the Hub; "
            "tell its authors, or take another revision"
        )
    return HubModel(name, folder, frozenset(listed["names"]), shards, keys)


def _indexed(folder: Path) -> dict[str, str]:
    try:
        weight_map = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {str(key): Path(file).name for key, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAModel(f"{folder / INDEX} is no index of weights; fetch the model again") from error


def _listed(name: str, folder: Path) -> Any:
    """What the Hub says of a commit's files, asked once: a commit never changes."""
    path = folder.parents[1] / "headlamp" / f"{folder.name}.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    found = _asked(name, folder)
    with suppress(OSError):  # it is asked again then
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps(found), encoding="utf-8")
        fresh.replace(path)
    return found


def _asked(name: str, folder: Path) -> dict[str, Any]:
    api, commit = HfApi(), folder.name
    listed = api.model_info(name, revision=commit, files_metadata=True).siblings or []
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
    keys = None
    if INDEX not in files:
        headers = {file: api.parse_safetensors_file_metadata(name, file, revision=commit) for file in weights}
        keys = {key: file for file, header in headers.items() for key in header.tensors}
    return {"names": sorted(files), "shards": shards, "keys": keys}
