"""Sources of models: bundled, local or Hub, and whether they may be read; safetensors only."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from analysis.checkpoints.hub_errors import make_hub_error
from analysis.errors import (
    ModelError,
    ModelNotFound,
    NotAModel,
    NotCausal,
    NotFetched,
    NoTokenizer,
    UnsafeWeights,
)
from demo import BUNDLED

_NOT_FETCHED = ["*/*", "consolidated*"]
"""Copies of the same weights in other formats, beside the ones transformers reads."""
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
HUB_ID = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
_CAUSAL_CLASSES = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")


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
        folder = Path(_snapshot(name, revision, local_files_only=True))
        if _is_whole(folder):
            return folder
    if not fetch:
        raise NotFetched(
            f"{name} is neither a bundled model ({known}) nor a folder, and is not among the Hub "
            "models on this machine; check the spelling, or fetch it"
        )
    try:
        return Path(_snapshot(name, revision, local_files_only=False))
    except Exception as error:
        raise explain_missing_model(name, make_hub_error(name, "a file", error)) from error


def explain_missing_model(name: str, why: ModelError) -> ModelError:
    """The error for a Hub model that cannot be fetched, worded to cover misspelt folders."""
    known = ", ".join(BUNDLED) or "none"
    return type(why)(f"{name} is neither a bundled model ({known}) nor a folder, and {why}")


def _is_whole(folder: Path) -> bool:
    """Whether all weights are there: some may have been fetched without the others."""
    maps = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.safetensors.index.json")]
    named = {name for index in maps for name in index["weight_map"].values()}
    return all((folder / name).is_file() for name in named) and any(folder.glob("*.safetensors"))


def _snapshot(name: str, revision: str | None, *, local_files_only: bool) -> str:
    return snapshot_download(
        name,
        revision=revision,
        allow_patterns=_HUB_FILES,
        ignore_patterns=_NOT_FETCHED,
        local_files_only=local_files_only,
    )


def local_folder(name: str) -> Path | None:
    """The absolute path of a folder on this machine, or None; never raises."""
    path = os.path.expanduser(name)
    return Path(path).resolve() if name.strip() and os.path.isdir(path) else None


def is_hub_id(name: str) -> bool:
    """Whether a name is looked up at the Hub: neither bundled nor a folder, but of the right form."""
    return name not in BUNDLED and local_folder(name) is None and HUB_ID.fullmatch(name) is not None


def read_config(path: Path, names: Collection[str] | None = None) -> Any:
    """The model's configuration, after all checks that are possible before reading weights.

    names: all files of the model, if some are not in its folder.
    """
    if not (path / "config.json").is_file():
        raise NotAModel(f"{path} has no config.json; use a folder in Hugging Face format")
    try:
        stored = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotAModel(f"{path}/config.json is not JSON: {first_line(error)}") from error
    if not isinstance(stored, dict):
        raise NotAModel(f"{path}/config.json is not a model's configuration")
    _refuse_unsafe(path, stored, [p.name for p in path.iterdir()] if names is None else names)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers checks a config with many kinds of error
        raise NotAModel(f"{path}/config.json: {first_line(error)}") from error
    _refuse_not_causal(path, config, stored)
    return config


def _refuse_unsafe(path: Path, stored: dict[str, Any], names: Collection[str]) -> None:
    if stored.get("auto_map"):
        raise UnsafeWeights(
            f"{path} has custom code (auto_map), which Headlamp never runs; use a model whose "
            "architecture transformers supports"
        )
    if stored.get("quantization_config"):
        raise NotAModel(
            f"{path} holds quantised weights; Headlamp reads float32, bfloat16 and float16: "
            "use the original model"
        )
    if any(name.endswith(".safetensors") for name in names):
        return
    pickles = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt")))
    if pickles:
        raise UnsafeWeights(
            f"{path} has pickled weights only ({pickles[0]}), which can run code when read; convert them: "
            "load in a sandbox with transformers and save_pretrained(…), which writes safetensors"
        )
    raise NotAModel(f"{path} has a config.json but no *.safetensors weights")


def _refuse_not_causal(path: Path, config: Any, stored: dict[str, Any]) -> None:
    listed = stored.get("architectures")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    if config.is_encoder_decoder:
        raise NotCausal(
            f"{path} is an encoder–decoder ({config.model_type}); Headlamp reads decoder-only models"
        )
    known = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if not known or (names and not any(_CAUSAL_CLASSES.search(name) for name in names)):
        what = names[0] if names else config.model_type
        raise NotCausal(
            f"{path} holds a {what}, which predicts no next token; give a causal model (…ForCausalLM)"
        )


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


def first_line(error: Exception) -> str:
    """The first line of an external error's message, at most 300 characters."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
