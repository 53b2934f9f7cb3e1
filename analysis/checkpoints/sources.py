"""Sources of models: bundled, local or Hub; and their tokenizers."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from analysis.checkpoints.gguf.config import read_gguf_tokenizer
from analysis.checkpoints.gguf.files import ENDING, find_gguf, split_hub_file
from analysis.checkpoints.gguf.header import MAGIC
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
    """The folder of a bundled name, a local folder or a Hub id; for one that holds a GGUF file, and for the
    name of one (here, or at the Hub as ORG/NAME:FILE.gguf), the file. Of BASE+ADAPTER it is the base's.

    fetch: whether a missing Hub model may be downloaded into the Hub's own cache;
    otherwise NotFetched is raised.
    """
    name, _ = split_adapter(name)
    if not name.strip():
        raise ModelNotFound(
            "no model named; give a bundled name (demo/base), a folder, a GGUF file or a Hub id"
        )
    if name in BUNDLED:
        return BUNDLED[name]
    path = local_path(name)
    if path is not None:
        return path if path.is_file() else find_gguf(path) or path
    if os.path.exists(os.path.expanduser(name)):
        raise NotAModel(
            f"{name} is a file, but no GGUF file; give the folder that holds config.json and "
            "*.safetensors, or a GGUF file"
        )
    at_hub = split_hub_file(name)
    if at_hub is not None:
        return _hub_file(name, *at_hub, revision, fetch=fetch)
    if name.lower().endswith(ENDING):
        raise ModelNotFound(
            f"{name}: there is no file of this name; check it, or give ORG/NAME:FILE.gguf of a Hub model"
        )
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


def _hub_file(name: str, model: str, file: str, revision: str | None, *, fetch: bool) -> Path:
    """One file of a Hub model, in the Hub's own cache; uses the network only with `fetch`."""
    here = try_to_load_from_cache(model, file, revision=revision)  # hf_hub_download may use the network
    if isinstance(here, str):
        return Path(here)
    if not fetch:
        raise NotFetched(
            f"{file} of the Hub model {model} is not on this machine; check the spelling, or fetch it"
        )
    with explain_hub_errors(model, file):
        return Path(hf_hub_download(model, file, revision=revision))


def explain_missing_model(name: str, why: ModelError) -> ModelError:
    """The error for a Hub model that cannot be fetched, worded to cover misspelt folders."""
    known = ", ".join(BUNDLED) or "none"
    elsewhere = f"; {ELSEWHERE[name]}" if name in ELSEWHERE else ""
    return type(why)(f"{name} is neither a bundled model ({known}) nor a folder, and {why}{elsewhere}")


def local_path(name: str) -> Path | None:
    """The absolute path of a folder or GGUF file on this machine, or None; never raises."""
    path = os.path.expanduser(name)
    if name.strip() and os.path.isdir(path):
        return Path(path).resolve()
    if not name.strip() or not os.path.isfile(path):
        return None
    known = name.lower().endswith(ENDING) or _begins_as_gguf(path)
    return (
        Path(path).absolute().parent.resolve() / Path(path).name if known else None
    )  # a link keeps its name


def _begins_as_gguf(path: str) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


def split_adapter(name: str) -> tuple[str, str | None]:
    """BASE+ADAPTER → (base, adapter); any other name → (name, None).

    A bundled name, folder or file whose own name holds a + is no such pair. Of several + the one is taken
    whose two sides exist on this machine, else whose base does, else the first whose base could be a Hub id.
    """
    if "+" not in name or name in BUNDLED or local_path(name) is not None:
        return name, None
    pairs = [(name[:i], name[i + 1 :]) for i, character in enumerate(name) if character == "+"]
    known = [pair for pair in pairs if pair[1].strip() and is_known(pair[0])]
    if not known:
        return name, None
    return max(known, key=lambda pair: (not is_hub_id(pair[0]), local_path(pair[1]) is not None))


def is_known(name: str) -> bool:
    """Whether a name is that of a bundled model or of one on this machine, or could be at the Hub."""
    return name in BUNDLED or local_path(name) is not None or is_hub_id(name)


def is_hub_id(name: str) -> bool:
    """Whether a name is looked up at the Hub: neither bundled nor on this machine, but of the right form. Of
    BASE+ADAPTER the base is meant.
    """
    name, _ = split_adapter(name)
    if name in BUNDLED or local_path(name) is not None:
        return False
    return HUB_ID.fullmatch(name) is not None or is_hub_file(name)


def is_hub_file(name: str) -> bool:
    """Whether a name is that of one GGUF file of a Hub model: ORG/NAME:FILE.gguf, with an adapter or not."""
    name, _ = split_adapter(name)
    return split_hub_file(name) is not None and local_path(name) is None


def read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises NoTokenizer, saying what to do."""
    advice = "copy tokenizer.json and tokenizer_config.json of the model beside its weights"
    try:
        if path.is_file():
            advice = "use a GGUF file with a vocabulary that transformers knows, or the original model"
            tokenizer = read_gguf_tokenizer(path)
        else:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        if len(tokenizer.encode("a", add_special_tokens=False)) == 0:
            raise ValueError("it encodes text to no tokens")
    except Exception as error:
        raise NoTokenizer(
            f"{path} has no tokenizer that can be loaded ({first_line(error)}); {advice}"
        ) from error
    return tokenizer
