"""Sources of models: bundled, local or Hub; and their tokenizers."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from analysis.checkpoints.hub import hub_model
from analysis.checkpoints.hub_errors import explain_hub_errors
from analysis.checkpoints.weight_files import SINGLE, find_weight_files
from analysis.errors import (
    FetchFailed,
    ModelError,
    ModelNotFound,
    NotAModel,
    NotFetched,
    NoTokenizer,
    first_line,
)
from demo import BUNDLED, ELSEWHERE

HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")


def resolve(name: str, revision: str | None = None, *, fetch: bool = False) -> Path:
    """The folder of a bundled name, a local folder or a Hub id.

    fetch: whether a missing Hub model may be downloaded into the Hub's own cache;
    otherwise NotFetched is raised.
    """
    if not name.strip():
        raise ModelNotFound("no model named; give a bundled name (demo/base), a folder or a Hub id")
    if name in BUNDLED:
        return BUNDLED[name]
    folder = local_folder(name)
    if folder is not None:
        return folder
    if os.path.exists(os.path.expanduser(name)):
        raise NotAModel(f"{name} is a file; give the folder that holds config.json and *.safetensors")
    if not HUB_ID.fullmatch(name):
        known = ", ".join(BUNDLED) or "none"
        raise ModelNotFound(f"{name}: there is no folder, bundled model ({known}) or Hub id of this name")
    return _hub_folder(name, revision, fetch=fetch)


def _hub_folder(name: str, revision: str | None, *, fetch: bool) -> Path:
    """A Hub model's folder in the Hub's own cache; uses the network only with `fetch`."""
    known = ", ".join(BUNDLED) or "none"
    with suppress(Exception):
        folder = Path(
            snapshot_download(name, revision=revision, allow_patterns=["config.json"], local_files_only=True)
        )
        if _is_whole(folder):
            return folder
    if not fetch:
        raise NotFetched(
            f"{name} is neither a bundled model ({known}) nor a folder, and is not among the Hub "
            "models on this machine; check the spelling, or fetch it"
        )
    try:
        remote = hub_model(name, revision)
    except (ModelNotFound, FetchFailed) as error:
        raise explain_missing_model(name, error) from error
    with explain_hub_errors(name, "the weights"):
        snapshot_download(name, revision=remote.commit, allow_patterns=list(remote.files.names))
    return remote.folder


def _is_whole(folder: Path) -> bool:
    """Whether all weights are there, and no file that is not could be the weights instead."""
    files = find_weight_files(folder)
    listed = folder.parents[1] / "headlamp" / f"{folder.name}.contents.json"
    return files.names == (SINGLE,) or files.index is not None or listed.is_file()


def explain_missing_model(name: str, why: ModelError) -> ModelError:
    """The error for a Hub model that cannot be fetched, worded to cover misspelt folders."""
    known = ", ".join(BUNDLED) or "none"
    elsewhere = f"; {ELSEWHERE[name]}" if name in ELSEWHERE else ""
    return type(why)(f"{name} is neither a bundled model ({known}) nor a folder, and {why}{elsewhere}")


def local_folder(name: str) -> Path | None:
    """The absolute path of a folder on this machine, or None; never raises."""
    path = os.path.expanduser(name)
    return Path(path).resolve() if name.strip() and os.path.isdir(path) else None


def is_hub_id(name: str) -> bool:
    """Whether a name is looked up at the Hub: neither bundled nor a folder, but of the right form."""
    return name not in BUNDLED and local_folder(name) is None and HUB_ID.fullmatch(name) is not None


def read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises NoTokenizer, saying what to do."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        if len(tokenizer.encode("a", add_special_tokens=False)) == 0:
            raise ValueError("it encodes text to no tokens")
    except Exception as error:
        raise NoTokenizer(
            f"{path} has no tokenizer that can be loaded ({first_line(error)}); "
            "copy tokenizer.json and tokenizer_config.json of the model beside its weights"
        ) from error
    return tokenizer
