"""Open a causal language model: by bundled name, local folder or Hub id; safetensors only, no foreign code.

A model is loaded once per process and device, leased while somebody uses it, and changed only through
`interventions.intervened`, which holds its lock for one forward step.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from analysis.anatomy import Anatomy
from analysis.checkpoints import LocalCheckpoint, checkpoint_keys, slices
from analysis.decoding import HeadMatrix, head_matrix
from analysis.errors import ModelError, NotFetched
from analysis.fingerprint import FileKey, HashCache, fingerprint, stamp
from analysis.hub import HubModel, hub_model
from analysis.hub_shards import HubCheckpoint
from analysis.sources import first_line, local_folder, read_config, read_tokenizer, resolve
from analysis.streaming import StreamedParameters, empty_model
from analysis.structure import find_anatomy
from analysis.vocabulary import Vocabulary, read_vocabulary
from demo import BUNDLED

Shards = Literal["local", "keep", "delete"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class ModelRef:
    """Which model, where and how precise: everything that names one loaded copy."""

    name: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "auto"
    streamed: bool = False
    """Whether weights stay on disk and are read when needed: for decoding a model larger than memory."""
    shards: Shards = "local"
    """Of a streamed Hub model that is not here: whether its shards may be fetched when they are needed, to be
    kept, or to be deleted after use."""

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
    stamp: tuple[FileKey, ...] = ()
    streamed: StreamedParameters | None = None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @cached_property
    def parameters(self) -> Mapping[str, Tensor]:
        """Every parameter by its name, tied ones under each of theirs."""
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
        return head_matrix(self.anatomy, self.parameters, len(self.vocabulary))

    @property
    def changed_on_disk(self) -> bool:
        """Whether its files are no longer those that were read."""
        return bool(self.stamp) and stamp(self.path) != self.stamp

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that are no text: the tokenizer's special ones, added special ones, and ends of text."""
        added = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return frozenset({*self.tokenizer.all_special_ids, *added, *self.ends_of_text})

    @property
    def ends_of_text(self) -> frozenset[int]:
        """Tokens that end an answer, from the generation config and the tokenizer."""
        config = self.model.generation_config
        stated = None if config is None else config.eos_token_id
        ids = stated if isinstance(stated, list) else [stated]
        return frozenset(int(i) for i in (*ids, self.tokenizer.eos_token_id) if i is not None)

    @property
    def device(self) -> torch.device:
        """Where the LM head lies."""
        if self.streamed is not None:
            return torch.device(self.ref.device)
        return self.parameters[self.anatomy.head.parameter].device

    @property
    def dtype(self) -> str:
        """The dtype in use, as DTYPES names it."""
        return self.ref.resolved_dtype


MOST_LOADED = 2
"""Models that stay in memory once nobody uses them; the least recently used goes first."""


@dataclass(eq=False)
class _Entry:
    """One copy in memory, or on its way there. `leases`: how many use it or wait for it."""

    future: Future[LoadedModel] = field(default_factory=Future)
    leases: int = 0

    @property
    def stale(self) -> bool:
        """Whether its files were replaced or rewritten since they were read."""
        return self.future.done() and self.future.result().changed_on_disk


_entries: dict[ModelRef, _Entry] = {}
_table = threading.Lock()
"""Guards the table alone; loading one model keeps nobody from using another."""


@contextmanager
def leased(ref: ModelRef, hashes: HashCache | None = None, *, fetch: bool = False) -> Iterator[LoadedModel]:
    """The loaded model, safe from eviction while the body runs. Loads it on first use in this process.

    Once its last lease ends, a model stays until MOST_LOADED others have been used after it, or until its
    files change: then the next lease loads it anew.
    """
    ref = settled(ref)
    entry, is_new = _lease(ref)
    try:
        if is_new:
            _load_into(entry, ref, hashes, fetch=fetch)
        yield entry.future.result()
    finally:
        with _table:
            entry.leases -= 1
            _evict_idle(MOST_LOADED)


def is_loaded(ref: ModelRef) -> bool:
    """Whether a model is in memory, or on its way there."""
    with _table:
        entry = _entries.get(settled(ref))
        return entry is not None and not entry.stale


def _lease(ref: ModelRef) -> tuple[_Entry, bool]:
    with _table:
        entry = _entries.pop(ref, None)
        is_new = entry is None or entry.stale
        if entry is None or is_new:
            _evict_idle(MOST_LOADED - 1)
            entry = _Entry()
        _entries[ref] = entry
        entry.leases += 1
        return entry, is_new


def _load_into(entry: _Entry, ref: ModelRef, hashes: HashCache | None, *, fetch: bool) -> None:
    try:
        entry.future.set_result(load_model(ref, hashes, fetch=fetch))
    except BaseException as error:
        with _table:
            if _entries.get(ref) is entry:
                del _entries[ref]
        entry.future.set_exception(error)


def _evict_idle(most: int) -> None:
    idle = [ref for ref, entry in _entries.items() if not entry.leases]
    for ref in idle[: max(len(_entries) - most, 0)]:
        del _entries[ref]


def load_model(ref: ModelRef, hashes: HashCache | None = None, *, fetch: bool = False) -> LoadedModel:
    """Load, prove the anatomy, read the fingerprint. Raises a ModelError that says what to do instead."""
    remote = _remote(ref)
    path = resolve(ref.name, ref.revision, fetch=fetch) if remote is None else remote.folder
    config = read_config(path, None if remote is None else remote.names)
    before = stamp(path) if remote is None else ()
    tokenizer = read_tokenizer(path)
    model, weights, anatomy = _opened(ref, path, config, remote)
    identity = fingerprint(path, hashes) if remote is None else remote.fingerprint(hashes)
    if remote is None and stamp(path) != before:
        raise ModelError(f"{ref.name} was being written while it was read; open it again when that is done")
    return LoadedModel(ref, path, model, tokenizer, anatomy, identity, before, weights)


def _remote(ref: ModelRef) -> HubModel | None:
    """The Hub model whose shards will be fetched one by one; None where it is here, or must be."""
    if ref.shards == "local":
        return None
    try:
        resolve(ref.name, ref.revision)
    except NotFetched:
        return hub_model(ref.name, ref.revision)
    return None


def _opened(
    ref: ModelRef, path: Path, config: Any, remote: HubModel | None
) -> tuple[PreTrainedModel, StreamedParameters | None, Anatomy]:
    """A Hub model's parts are proven on made-up weights: a run on its own would fetch every shard."""
    if not ref.streamed:
        model = _read_weights(ref, path, config)
        return model, None, find_anatomy(model)
    _device_and_dtype(ref)
    model = empty_model(config, DTYPES[ref.resolved_dtype])
    _take_generation_config(model, path)
    here = LocalCheckpoint(path) if remote is None else HubCheckpoint(remote, keep=ref.shards == "keep")
    weights = StreamedParameters(model, here)
    with nullcontext() if remote is None else weights.rehearsal():
        return model, weights, find_anatomy(model, weights, weights.running)


def _take_generation_config(model: PreTrainedModel, path: Path) -> None:
    """Which tokens end a text is said there."""
    if (path / "generation_config.json").is_file():
        try:
            model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
        except Exception as error:  # the edge to transformers
            raise ModelError(
                f"{path}/generation_config.json: {first_line(error)}; fetch the model again"
            ) from error


def _device_and_dtype(ref: ModelRef) -> torch.device:
    """Where the weights go. Raises ModelError for what is not here."""
    if ref.resolved_dtype not in DTYPES:
        raise ModelError(f"dtype {ref.dtype!r} is unknown; choose auto, {', '.join(DTYPES)}")
    if ref.streamed and ref.device != "cpu":
        raise ModelError(f"weights are streamed to the CPU only, not to {ref.device}; leave the device out")
    return _device(ref.device)


def _read_weights(ref: ModelRef, path: Path, config: Any) -> PreTrainedModel:
    device, dtype = _device_and_dtype(ref), DTYPES[ref.resolved_dtype]
    try:
        empty = empty_model(config, dtype)
        with slices(checkpoint_keys(path)) as state:
            model, report = type(empty).from_pretrained(
                None, config=empty.config, state_dict=state, dtype=dtype, output_loading_info=True
            )
        _take_generation_config(model, path)
        model = model.to(device).eval().requires_grad_(False)
    except Exception as error:  # the edge to transformers: every way it has of refusing a folder
        raise ModelError(f"{ref.name} could not be loaded on {ref.device}: {first_line(error)}") from error
    _refuse_incomplete(ref, report, config)
    return cast(PreTrainedModel, model)


def _refuse_incomplete(ref: ModelRef, report: Any, config: Any) -> None:
    """Weights that would be made up, or layers that the config leaves out, are no model to report on."""
    made_up = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if made_up:
        raise ModelError(
            f"{ref.name} is incomplete: {len(made_up)} weights are missing or of another shape, "
            f"{made_up[0]} first; fetch or convert the model again"
        )
    layers = config.get_text_config().num_hidden_layers
    for key in sorted(report["unexpected_keys"]):
        number = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", key)
        if number is not None and int(number.group(1)) >= layers:
            raise ModelError(
                f"{ref.name}: its config says {layers} layers, but its weights hold {key}; "
                "give the config that belongs to these weights"
            )


def _device(name: str) -> torch.device:
    """The device, if this machine has it. Raises ModelError saying which it has."""
    have = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    have += ["mps"] if torch.backends.mps.is_available() else []
    if name not in (*have, *(["cuda"] if "cuda:0" in have else [])):
        raise ModelError(f"device {name!r} is not here; this machine has {', '.join(have)}")
    return torch.device(name)


def settled(ref: ModelRef) -> ModelRef:
    """The same model named so that it means the same anywhere: whole folder path, real device, real dtype.

    `auto` never takes MPS, on which nothing here has been measured; `mps` asks for it.
    """
    device = "cpu" if ref.streamed and ref.device == "auto" else ref.device
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    folder = None if ref.name in BUNDLED else local_folder(ref.name)
    at_hub = ref.streamed and folder is None and ref.name not in BUNDLED
    shards: Shards = ref.shards if at_hub else "local"
    ref = replace(ref, name=str(folder or ref.name), device=device, shards=shards)
    return replace(ref, dtype=ref.resolved_dtype)
