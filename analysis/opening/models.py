"""Opening of causal language models: by bundled name, local folder, GGUF file or Hub id; no pickled weights,
no custom code.

A model is loaded once per process and device, leased during use (`leases`), and changed only
through `interventions.intervene`, which holds its lock for one forward step.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from analysis.anatomy.anatomy import Anatomy
from analysis.anatomy.head_matrix import HeadMatrix, read_head_matrix
from analysis.anatomy.proofs import KeptProofs, keep_anatomy, proof_key, recall_anatomy
from analysis.anatomy.structure import find_anatomy
from analysis.checkpoints.adapters.files import Adapter, find_adapter
from analysis.checkpoints.configs import read_config
from analysis.checkpoints.devices import free_unused
from analysis.checkpoints.fingerprint import FileKey, HashCache, fingerprint, stamp
from analysis.checkpoints.hub import HubModel, hub_model
from analysis.checkpoints.hub_shards import HubCheckpoint
from analysis.checkpoints.loading import (
    DTYPES,
    empty_model,
    read_weights,
    refuse_not_finite,
    take_generation_config,
)
from analysis.checkpoints.reading import LocalCheckpoint, describe_format
from analysis.checkpoints.sources import explain_missing_model, read_tokenizer, resolve, split_adapter
from analysis.checkpoints.streaming import StreamedParameters
from analysis.checkpoints.wrappers.templates import read_processor_template
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import (
    ContractBroken,
    FetchFailed,
    ModelError,
    ModelNotFound,
    NotFetched,
    UnknownStructure,
)
from analysis.opening.model_ref import ModelRef, Shards, resolve_ref
from analysis.opening.vocabulary import Vocabulary, read_vocabulary

__all__ = ["LoadedModel", "ModelRef", "Shards", "load_model", "resolve_ref"]


@dataclass(eq=False)
class LoadedModel:
    """A model in memory with its metadata. `lock` is held for one forward step at a time."""

    ref: ModelRef
    path: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    anatomy: Anatomy
    fingerprint: str
    stamp: tuple[FileKey, ...] = ()
    streamed: StreamedParameters | None = None
    weights_format: str = ""
    """How its weights are stored, if they are dequantised while they are read: "dequantised from Q4_1"."""
    adapter: Adapter | None = None
    """The LoRA adapter that is merged into its weights."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """Every parameter by its name; tied ones under each name."""
        if self.streamed is not None:
            return self.streamed
        return dict(self.model.named_parameters(remove_duplicate=False))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The exact text of every token."""
        return read_vocabulary(self.tokenizer, self.anatomy.head.vocab, self.special_ids)

    @cached_property
    def head(self) -> HeadMatrix:
        """The LM head's linear part over the tokenizer's vocabulary."""
        vocabulary = self.vocabulary
        return read_head_matrix(self.anatomy, self.parameters, len(vocabulary), vocabulary.holes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said of it beside its facts: how it differs from what its files alone hold."""
        left = find_left_out(self.model)
        found = (self.adapter, left if left is not None and left.parts else None)
        return tuple(one.describe() for one in found if one is not None)

    @property
    def at_hub(self) -> HubModel | None:
        """The Hub model whose shards are fetched on demand; its parts are proven on placeholder weights."""
        checkpoint = None if self.streamed is None else self.streamed.checkpoint
        return checkpoint.model if isinstance(checkpoint, HubCheckpoint) else None

    @property
    def changed_on_disk(self) -> bool:
        """Whether its files changed since they were read."""
        return bool(self.stamp) and _stamp(self.path, self.adapter) != self.stamp

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Non-text tokens: the tokenizer's special ones, added special ones, and end-of-text tokens."""
        added = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return frozenset({*self.tokenizer.all_special_ids, *added, *self.ends_of_text})

    @property
    def ends_of_text(self) -> frozenset[int]:
        """Tokens that end an answer, from generation config and tokenizer."""
        config = self.model.generation_config
        stated = None if config is None else config.eos_token_id
        ids = stated if isinstance(stated, list) else [stated]
        return frozenset(i for i in (*ids, self.tokenizer.eos_token_id) if isinstance(i, int) and i >= 0)

    @property
    def device(self) -> torch.device:
        """The LM head's device."""
        if self.streamed is not None:
            return torch.device(self.ref.device)
        return self.parameters[self.anatomy.head.parameter].device

    @property
    def dtype(self) -> str:
        """The dtype in use, as DTYPES names it."""
        return self.ref.resolved_dtype


def load_model(
    ref: ModelRef,
    hashes: HashCache | None = None,
    proofs: KeptProofs | None = None,
    *,
    fetch: bool = False,
) -> LoadedModel:
    """Load, read the fingerprint, prove the anatomy. Raises a ModelError that says what to do.

    hashes, proofs: file hashes and proven anatomies that need not be computed again; new ones are added.
    """
    remote = _remote(ref)
    path = resolve(ref.name, ref.revision, fetch=fetch) if remote is None else remote.folder
    adapter = find_adapter(ref.name, fetch=fetch)
    config = read_config(path, weights_here=remote is None)
    before = _stamp(path, adapter) if remote is None else ()
    tokenizer = read_tokenizer(path)
    if path.is_dir() and config.get_text_config() is not config:
        tokenizer.chat_template = read_processor_template(path) or tokenizer.chat_template
    model, weights = _open(ref, path, config, remote, adapter)
    identity = fingerprint(path, hashes) if remote is None else remote.fingerprint(hashes)
    if adapter is not None:
        identity = adapter.fingerprint(identity, hashes)
    if remote is None and _stamp(path, adapter) != before:
        raise ModelError(
            f"{ref.name} was written to while it was read; open the model again once nothing writes to it"
        )
    anatomy = _prove(ref, model, weights, identity, proofs, made_up=remote is not None)
    packed = describe_format(path)
    return LoadedModel(ref, path, model, tokenizer, anatomy, identity, before, weights, packed, adapter)


def _stamp(path: Path, adapter: Adapter | None) -> tuple[FileKey, ...]:
    """A value that changes whenever a file of the model, or of its adapter, is replaced or rewritten."""
    return stamp(path) + (() if adapter is None else adapter.stamp())


def _remote(ref: ModelRef) -> HubModel | None:
    """The Hub model whose shards will be fetched one by one; None if it is here, or must be."""
    if ref.shards == "local":
        return None
    base, _ = split_adapter(ref.name)
    try:
        resolve(base, ref.revision)
    except NotFetched:
        try:
            return hub_model(base, ref.revision)
        except (ModelNotFound, FetchFailed) as error:
            raise explain_missing_model(base, error) from error
    return None


def _prove(
    ref: ModelRef,
    model: PreTrainedModel,
    weights: StreamedParameters | None,
    identity: str,
    proofs: KeptProofs | None,
    *,
    made_up: bool,
) -> Anatomy:
    """The model's anatomy: as proven before, else proven now and kept.

    made_up: whether to prove it on placeholder weights, since a real run would fetch every shard.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    key = proof_key(identity, type(model).__name__, ref.resolved_dtype, ref.device)
    known = None if proofs is None else recall_anatomy(proofs, key, parameters)
    if known is not None:
        return known
    try:
        with weights.rehearsal() if weights is not None and made_up else nullcontext():
            if weights is None:
                anatomy = find_anatomy(model)
            else:
                anatomy = find_anatomy(model, weights, weights.running)
    except (ContractBroken, UnknownStructure) as error:
        if not made_up:
            refuse_not_finite(ref.name, parameters if weights is None else weights, error)
        if (left := find_left_out(model)) is not None and left.parts:
            parts = ", ".join(left.parts)
            raise type(error)(
                f"{error}; it is multimodal and was opened without {parts}, which its code may need for a "
                "text too"
            ) from error
        raise
    if proofs is not None and not made_up:
        keep_anatomy(proofs, key, anatomy)
    free_unused()  # leftovers of the proof
    return anatomy


def _open(
    ref: ModelRef, path: Path, config: Any, remote: HubModel | None, adapter: Adapter | None
) -> tuple[PreTrainedModel, StreamedParameters | None]:
    """The model, with its weights in memory or streamed."""
    if ref.resolved_dtype not in DTYPES:
        raise ModelError(f"dtype {ref.dtype!r} is unknown; choose auto, {', '.join(DTYPES)}")
    dtype = DTYPES[ref.resolved_dtype]
    if not ref.streamed:
        return read_weights(ref.name, path, config, ref.device, dtype, adapter), None
    if ref.device != "cpu":
        raise ModelError(f"streamed weights need the CPU, not {ref.device}; leave the device out")
    model = empty_model(config, dtype)
    take_generation_config(model, path)
    here = (
        LocalCheckpoint(path, model) if remote is None else HubCheckpoint(remote, keep=ref.shards == "keep")
    )
    return model, StreamedParameters(model, here, adapter)
