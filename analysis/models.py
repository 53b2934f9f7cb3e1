"""Open a causal language model: by bundled name, local folder or Hub id; safetensors only, no foreign code.

A model is loaded once per process and device, leased while somebody uses it, and changed only through
`interventions.intervened`, which holds its lock for one forward step.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from analysis.anatomy import Anatomy
from analysis.decoding import HeadMatrix, head_matrix
from analysis.errors import ModelError
from analysis.fingerprint import HashCache, fingerprint
from analysis.sources import first_line, local_folder, read_config, read_tokenizer, resolve
from analysis.structure import find_anatomy
from analysis.vocabulary import Vocabulary, read_vocabulary
from demo import BUNDLED

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    tokenizer = read_tokenizer(path)
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
        raise ModelError(f"{ref.name} could not be loaded on {ref.device}: {first_line(error)}") from error
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


def settled(ref: ModelRef) -> ModelRef:
    """The same model named so that it means the same anywhere: whole folder path, real device, real dtype."""
    device = ref.device
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    folder = None if ref.name in BUNDLED else local_folder(ref.name)
    ref = replace(ref, name=str(folder or ref.name), device=device)
    return replace(ref, dtype=ref.resolved_dtype)
