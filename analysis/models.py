"""Open a causal language model: by bundled name, local folder or Hub id; safetensors only, no foreign code.

A model is loaded once per process and device, leased while somebody uses it, and changed only through
`interventions.intervened`, which holds its lock for one forward step.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from analysis.anatomy import Anatomy
from analysis.decoding import HeadMatrix, head_matrix
from analysis.errors import ModelError, ModelNotFound, NotAModel, NotCausal, NoTokenizer, UnsafeWeights
from analysis.fingerprint import HashCache, fingerprint
from analysis.structure import find_anatomy
from analysis.vocabulary import Vocabulary, read_vocabulary
from demo import BUNDLED

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CAUSAL_CLASSES = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")


@dataclass(frozen=True)
class ModelRef:
    """Which model, where and how precise: everything that names one loaded copy."""

    name: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"

    @property
    def resolved_dtype(self) -> str:
        """`auto` is float32 on the CPU and bfloat16 on an accelerator."""
        if self.dtype != "auto":
            return self.dtype
        return "float32" if self.device == "cpu" else "bfloat16"


@dataclass(eq=False)
class LoadedModel:
    """A model in memory with all that is known of it. `lock` is held for one forward step at a time."""

    ref: ModelRef
    path: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    fingerprint: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """Every parameter by its name, tied ones under each of theirs."""
        return dict(self.model.named_parameters(remove_duplicate=False))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The exact text of every token."""
        return read_vocabulary(self.tokenizer, self.anatomy.head.vocab)

    @cached_property
    def head(self) -> HeadMatrix:
        """The LM head's linear part over the tokenizer's vocabulary."""
        return head_matrix(self.anatomy, self.parameters, len(self.vocabulary))

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lies."""
        return self.parameters[self.anatomy.head.parameter].device

    @property
    def dtype(self) -> str:
        """The dtype in use, as DTYPES names it."""
        return self.ref.resolved_dtype


MOST_LOADED = 2
"""Models that stay in memory once nobody uses them; the least recently used goes first."""

_loaded: dict[ModelRef, LoadedModel] = {}
_leases: Counter[ModelRef] = Counter()
_loading = threading.Lock()


@contextmanager
def leased(ref: ModelRef, hashes: HashCache | None = None) -> Iterator[LoadedModel]:
    """The loaded model, safe from eviction while the body runs. Loads it on first use in this process.

    Once its last lease ends, a model stays until MOST_LOADED others have been used after it.
    """
    ref = settled(ref)
    with _loading:
        loaded = _loaded.pop(ref, None) or load_model(ref, hashes)
        _loaded[ref] = loaded
        _leases[ref] += 1
    try:
        yield loaded
    finally:
        with _loading:
            _leases[ref] -= 1
            _evict_idle()


def _evict_idle() -> None:
    idle = [ref for ref in _loaded if not _leases[ref]]
    for ref in idle[: max(len(_loaded) - MOST_LOADED, 0)]:
        del _loaded[ref], _leases[ref]


def load_model(ref: ModelRef, hashes: HashCache | None = None) -> LoadedModel:
    """Load, prove the anatomy, read the fingerprint. Raises a ModelError that says what to do instead."""
    path = resolve(ref.name, ref.revision)
    config = read_config(path)
    tokenizer = _read_tokenizer(path)
    model = _read_weights(ref, path, config)
    return LoadedModel(ref, path, model, tokenizer, find_anatomy(model), fingerprint(path, hashes))


def _read_weights(ref: ModelRef, path: Path, config: Any) -> PreTrainedModel:
    if ref.resolved_dtype not in DTYPES:
        raise ModelError(f"dtype {ref.dtype!r} is unknown; choose auto, {', '.join(DTYPES)}")
    device = _device(ref.device)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=DTYPES[ref.resolved_dtype],
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        model = model.to(device).eval().requires_grad_(False)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"{ref.name} could not be loaded on {ref.device}: {_first_line(error)}") from error
    made_up = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if made_up:
        raise ModelError(
            f"{ref.name} is incomplete: {len(made_up)} weights are missing or of another shape, "
            f"{made_up[0]} first; fetch or convert the model again"
        )
    return cast(PreTrainedModel, model)


def _device(name: str) -> torch.device:
    """The device, if this machine has it. Raises ModelError saying which it has."""
    have = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    have += ["mps"] if torch.backends.mps.is_available() else []
    if name not in (*have, *(["cuda"] if len(have) > 1 and "cuda:0" in have else [])):
        raise ModelError(f"device {name!r} is not here; this machine has {', '.join(have)}")
    return torch.device(name)


def resolve(name: str, revision: str | None = None) -> Path:
    """The folder of a bundled name, a local folder or a Hub id (fetched into the Hub's own cache)."""
    if not name.strip():
        raise ModelNotFound("no model named; give a bundled name (demo/base), a folder or a Hub id")
    if name in BUNDLED:
        return BUNDLED[name]
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.exists():
        raise NotAModel(f"{name} is a file; give the folder that holds config.json and *.safetensors")
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelNotFound(f"{name}: no such folder")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_HUB_FILES))
    except Exception as error:
        known = ", ".join(BUNDLED) or "none"
        raise ModelNotFound(
            f"{name} is neither a bundled model ({known}) nor a folder, and the Hub did not give it: "
            f"{_first_line(error)}; check the spelling or the network, or give a local folder"
        ) from error


def read_config(path: Path) -> Any:
    """The model's configuration, after everything that can be refused before reading weights."""
    if not (path / "config.json").is_file():
        raise NotAModel(f"{path} has no config.json; give a folder in Hugging Face format")
    try:
        stored = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotAModel(f"{path}/config.json is not JSON: {_first_line(error)}") from error
    if not isinstance(stored, dict):
        raise NotAModel(f"{path}/config.json is not a model's configuration")
    _refuse_unsafe(path, stored)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotAModel(f"{path}/config.json: {_first_line(error)}") from error
    _refuse_not_causal(path, config, stored)
    return config


def _refuse_unsafe(path: Path, stored: dict[str, Any]) -> None:
    if stored.get("auto_map"):
        raise UnsafeWeights(
            f"{path} brings code of its own (auto_map), which Headlamp never runs; "
            "use a model whose architecture transformers ships"
        )
    if any(path.glob("*.safetensors")):
        return
    pickles = [p.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for p in path.glob(pattern)]
    if pickles:
        raise UnsafeWeights(
            f"{path} has pickled weights only ({pickles[0]}), which can run code when read; convert them: "
            "load in a sandbox with transformers and save_pretrained(…), which writes safetensors"
        )
    raise NotAModel(f"{path} has a config.json but no *.safetensors weights")


def _refuse_not_causal(path: Path, config: Any, stored: dict[str, Any]) -> None:
    names = stored.get("architectures") or []
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


def _read_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        if len(tokenizer.encode("a", add_special_tokens=False)) == 0:
            raise ValueError("it turns text into no tokens")
    except Exception as error:
        raise NoTokenizer(
            f"{path} has no tokenizer that can be loaded ({_first_line(error)}); "
            "copy tokenizer.json and tokenizer_config.json of the model beside its weights"
        ) from error
    return tokenizer


def settled(ref: ModelRef) -> ModelRef:
    """The same model named so that it means the same anywhere: whole folder path, real device, real dtype."""
    device = ref.device
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    name, folder = ref.name, Path(ref.name).expanduser()
    if name not in BUNDLED and name.strip() and folder.is_dir():
        name = str(folder.resolve())
    ref = replace(ref, name=name, device=device)
    return replace(ref, dtype=ref.resolved_dtype)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
