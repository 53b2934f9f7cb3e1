"""An adapter's folder: its settings and the tensors in its file, in the format of peft.

https://huggingface.co/docs/peft/developer_guides/checkpoint
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from analysis.checkpoints.fingerprint import FileKey, HashCache, combine_digests, file_key, hash_file
from analysis.checkpoints.headers import read_header
from analysis.checkpoints.hub_errors import explain_hub_errors
from analysis.checkpoints.sources import HUB_ID, local_path, split_adapter
from analysis.checkpoints.stored import AGAIN, StoredTensor
from analysis.errors import ModelNotFound, NotAModel, NotFetched, UnsafeWeights, first_line

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
EMBEDDING = ""
"""The name in `LoraSettings.tokens` of the input embedding, where the adapter does not name it."""
_PICKLED = "adapter_model.bin"
_CHANGES_BASE = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations that also change the weights an adapter is trained on, unless it is converted."""
_NOT_MERGED = {
    "layer_replication": "repeats layers of its base",
    "alora_invocation_tokens": "acts only behind the tokens that invoke it",
    "use_qalora": "pools the input of each layer",
    "use_bdlora": "is block-diagonal",
    "arrow_config": "chooses among adapters by the input",
    "kasa_config": "scales singular values of its base",
    "monteclora_config": "adds random samples",
}
"""Settings of peft under which an adapter is no low-rank change that is the same for every input."""


@dataclass(frozen=True)
class LoraSettings:
    """What adapter_config.json says of how its tensors change a weight (see peft's LoraConfig).

    ranks, alphas: by pattern, for modules that differ from rank and alpha. parameters: names of parameters
    that are changed directly, such as fused experts. saved: modules that are replaced whole. tokens: module →
    ids whose embeddings are replaced. tie: whether a tied head changes with the embedding. base: the model it
    was made for. targets, excluded: names of modules that are changed and that are not, or a pattern of them;
    layers: numbers of the layers that are changed, empty: all.
    """

    rank: int
    alpha: float
    rank_stabilised: bool = False
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    saved: tuple[str, ...] = ()
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tie: bool = False
    base: str | None = None
    targets: str | tuple[str, ...] = ()
    excluded: str | tuple[str, ...] = ()
    layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.rank, *self.ranks.values(), 1) < 1:
            raise ValueError("ranks must be from 1")

    def rank_of(self, name: str) -> int:
        """The rank r of a module's or parameter's change, by its name."""
        return int(_find_pattern(self.ranks, name, self.rank))

    def scale_of(self, name: str) -> float:
        """What its change is multiplied by: alpha / r, or alpha / √r where it is rank-stabilised."""
        rank = self.rank_of(name)
        alpha = _find_pattern(self.alphas, name, self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def _find_pattern(patterns: Mapping[str, float], name: str, default: float) -> float:
    """The value of the first pattern that a name, or the end of it, matches, as peft has it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default


@dataclass(frozen=True)
class Adapter:
    """An adapter on this machine. name: as it was given; tensors: key → entry of its file's header."""

    name: str
    folder: Path
    settings: LoraSettings
    tensors: Mapping[str, StoredTensor]

    @property
    def made_for(self) -> str:
        """The model it was made for, in words."""
        return f"made for {self.settings.base}" if self.settings.base else "it does not say for which model"

    def describe(self) -> str:
        """What is said of it beside a model's facts."""
        return f"LoRA adapter {self.name} merged into its weights ({self.made_for})"

    def stamp(self) -> tuple[FileKey, ...]:
        """A value that changes whenever one of its files is replaced or rewritten."""
        return tuple(file_key(self.folder / name) for name in (CONFIG, WEIGHTS))

    def fingerprint(self, base: str, hashes: HashCache | None = None) -> str:
        """The fingerprint (hex) of a model with this adapter. base: that of the model without it."""
        own = {name: hash_file(self.folder / name, hashes) for name in (CONFIG, WEIGHTS)}
        return combine_digests({"base": base, **own})


def find_adapter(name: str, *, fetch: bool = False) -> Adapter | None:
    """The adapter that a model's name has behind a +, as `open_adapter`; None without one."""
    _, adapter = split_adapter(name)
    return None if adapter is None else open_adapter(adapter, fetch=fetch)


def open_adapter(name: str, *, fetch: bool = False) -> Adapter:
    """Read an adapter's settings and header. name: a folder or a Hub id.

    fetch: whether one at the Hub may be downloaded into the Hub's own cache; otherwise NotFetched is raised.
    Raises ModelNotFound, NotAModel, UnsafeWeights, each saying what to do.
    """
    folder = _find_folder(name, fetch=fetch)
    if not (folder / CONFIG).is_file():
        raise NotAModel(
            f"{name} has no {CONFIG}, so it is no adapter; give a folder or Hub id that peft's "
            "save_pretrained(…) wrote"
        )
    settings = _read_settings(name, folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        if (folder / _PICKLED).is_file():
            raise UnsafeWeights(
                f"{name} has pickled weights only ({_PICKLED}), which can run code when read; convert them: "
                "load in a sandbox with peft and save_pretrained(…), which writes safetensors"
            )
        raise NotAModel(f"{name} has a {CONFIG} but no {WEIGHTS}{AGAIN}")
    return Adapter(name, folder, settings, read_header(folder / WEIGHTS))


def _find_folder(name: str, *, fetch: bool) -> Path:
    folder = local_path(name)
    if folder is not None and folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(name):
        raise ModelNotFound(
            f"{name}: there is no adapter of this name; give BASE+ADAPTER, where ADAPTER is a folder or a "
            "Hub id"
        )
    files = [CONFIG, WEIGHTS]
    try:
        return _require_whole(Path(snapshot_download(name, allow_patterns=files, local_files_only=True)))
    except (OSError, ValueError) as error:  # not here, or not all of it
        if not fetch:
            raise NotFetched(
                f"{name} is no folder, and not among the adapters from the Hub on this machine; check the "
                "spelling, or fetch it"
            ) from error
    with explain_hub_errors(name, "the adapter"):
        return Path(snapshot_download(name, allow_patterns=files))


def _require_whole(folder: Path) -> Path:
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(folder)
    return folder


def _read_settings(name: str, file: Path) -> LoraSettings:
    try:
        stored = json.loads(file.read_bytes())
        _refuse_unmergeable(name, stored)
        return _parse_settings(stored)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, re.error) as error:
        raise NotAModel(f"{file} is not an adapter's configuration: {first_line(error)}{AGAIN}") from error


def _refuse_unmergeable(name: str, stored: Mapping[str, Any]) -> None:
    kind = str(stored.get("peft_type"))
    if kind.upper() != "LORA":
        raise NotAModel(
            f"{name} is an adapter of kind {kind}, and Headlamp reads LoRA; merge it into its base model "
            "with peft (merge_and_unload), save that with save_pretrained(…), and open the result"
        )
    for setting, what in _NOT_MERGED.items():
        if stored.get(setting):
            raise NotAModel(
                f"{name} {what} ({setting} in its {CONFIG}), so no weight holds what it does; open its base "
                "alone"
            )
    begun = str(stored.get("init_lora_weights"))
    if begun.startswith(_CHANGES_BASE):
        raise NotAModel(
            f"{name} was begun by {begun}, which changed its base's weights too, and they are not here; "
            "save it with path_initial_model_for_weight_conversion, which makes it a plain LoRA"
        )


def _parse_settings(stored: Mapping[str, Any]) -> LoraSettings:
    for pattern in (*(stored.get("rank_pattern") or ()), *(stored.get("alpha_pattern") or ())):
        re.compile(pattern)
    tokens = stored.get("trainable_token_indices") or {}
    if isinstance(tokens, list):
        tokens = {EMBEDDING: tokens}
    base, layers = stored.get("base_model_name_or_path"), stored.get("layers_to_transform")
    return LoraSettings(
        rank=int(stored["r"]),
        alpha=float(stored["lora_alpha"]),
        rank_stabilised=bool(stored.get("use_rslora")),
        ranks={str(key): int(rank) for key, rank in (stored.get("rank_pattern") or {}).items()},
        alphas={str(key): float(alpha) for key, alpha in (stored.get("alpha_pattern") or {}).items()},
        parameters=tuple(map(str, stored.get("target_parameters") or ())),
        saved=tuple(map(str, stored.get("modules_to_save") or ())),
        tokens={str(module): tuple(map(int, ids)) for module, ids in tokens.items()},
        tie=bool(stored.get("ensure_weight_tying")),
        base=base if isinstance(base, str) and base else None,
        targets=_parse_names(stored.get("target_modules")),
        excluded=_parse_names(stored.get("exclude_modules")),
        layers=(layers,) if isinstance(layers, int) else tuple(map(int, layers or ())),
    )


def _parse_names(stored: Any) -> str | tuple[str, ...]:
    """Modules by name, or a pattern of them, which must compile."""
    if not isinstance(stored, str):
        return tuple(map(str, stored or ()))
    return re.compile(stored).pattern
