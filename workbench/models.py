"""Opening of models and facts about them; opened models are remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from analysis.anatomy.anatomy import Anatomy
from analysis.checkpoints.fingerprint import recall_fingerprint
from analysis.checkpoints.hub import HubModel
from analysis.checkpoints.sources import is_hub_id, local_path, resolve, split_adapter
from analysis.errors import ModelNotFound
from analysis.opening.leases import hold_model, is_loaded, lease_model, release_model
from analysis.opening.memory import MemoryFit, check_memory, check_memory_at_hub
from analysis.opening.models import LoadedModel, ModelRef, resolve_ref
from analysis.opening.vocabulary import measure_vocabulary
from demo import BUNDLED, FIRST_REAL
from store import FileHashes, ProvenAnatomies, Store, StoreError, list_models, remember_model
from workbench.records import read_odd_record, write_record

__all__ = [
    "ListedBlock",
    "ModelChoice",
    "ModelFacts",
    "check_model_memory",
    "hold_model",
    "is_loaded",
    "list_blocks",
    "list_model_choices",
    "measure_model",
    "open_model",
    "release_model",
]


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be opened: bundled, opened before, or a first real one at the Hub, without path.

    facts: as stored when it was opened, by whatever version; empty for one that never was.
    """

    name: str
    source: Literal["bundled", "known", "hub"]
    path: Path | None
    fingerprint: str | None
    facts: dict[str, Any]

    @property
    def architecture(self) -> str:
        """The class of its model, where that is known."""
        return read_odd_record(ModelFacts, self.facts).architecture


def list_model_choices(store: Store) -> list[ModelChoice]:
    """Bundled models first, then those opened before whose folder or file still exists, then a first real
    one.
    """
    hashes = FileHashes(store)
    choices = [
        ModelChoice(name, "bundled", path, recall_fingerprint(path, hashes), {})
        for name, path in BUNDLED.items()
    ]
    seen: set[tuple[str, str | None]] = set()
    for row in list_models(store):
        if (row.name, row.path) in seen:
            continue  # an older state of the same folder
        seen.add((row.name, row.path))
        if row.name not in BUNDLED and row.path and Path(row.path).exists() and _has_adapter(row.name):
            choices.append(ModelChoice(row.name, "known", Path(row.path), row.fingerprint, row.facts))
    if not any(choice.name == FIRST_REAL for choice in choices):
        choices.append(ModelChoice(FIRST_REAL, "hub", None, None, {}))
    return choices


def _has_adapter(name: str) -> bool:
    """Whether the adapter that a model's name has behind a + is still there; True without one."""
    _, adapter = split_adapter(name)
    return adapter is None or local_path(adapter) is not None or is_hub_id(adapter)


def check_model_memory(
    ref: ModelRef, context: int | None = None, at_hub: HubModel | None = None
) -> MemoryFit | None:
    """A model's memory needs for `context` tokens and whether it fits; for one that is not on this machine,
    from the Hub's metadata, else None. If it is already open, its needs count as used.

    Reads only its configuration and the headers of its weights. Raises a ModelError for a folder that is not
    a model, and if the Hub does not provide these.
    """
    wanted = resolve_ref(ref)
    asked = (wanted.resolved_dtype, context, wanted.device)
    try:
        folder = resolve(ref.name, ref.revision)
    except ModelNotFound:
        return None if at_hub is None else check_memory_at_hub(at_hub, *asked)
    return check_memory(folder, *asked)


@contextmanager
def open_model(ref: ModelRef, store: Store, *, fetch: bool = False) -> Iterator[LoadedModel]:
    """The loaded model, leased while the body runs, and remembered in the store.

    fetch: whether it may be downloaded from the Hub; otherwise NotFetched is raised.
    """
    with lease_model(ref, FileHashes(store), ProvenAnatomies(store), fetch=fetch) as loaded:
        if store.path not in _remembered.setdefault(loaded, set()):
            _remember(store, loaded)
        yield loaded


_remembered: WeakKeyDictionary[LoadedModel, set[Path]] = WeakKeyDictionary()
"""The databases that already list each model in memory, so that opening it again writes nothing."""


def _remember(store: Store, loaded: LoadedModel) -> None:
    """Remember the model; a store that cannot be written (full, read-only, busy) does not prevent its use."""
    with suppress(StoreError):
        remember_model(
            store,
            fingerprint=loaded.fingerprint,
            name=loaded.ref.name,
            revision=loaded.ref.revision,
            path=str(loaded.path),
            facts=write_record(measure_model(loaded)),
        )
        _remembered[loaded].add(store.path)


@dataclass(frozen=True)
class ModelFacts:
    """What `inspect` prints of a model, without its list of blocks. vocab: tokens; holes: ids without one;
    context: in tokens; bytes: of its weights in the open dtype; weights: how they are stored, if packed;
    notes: what was merged into them, or left out of them.
    """

    architecture: str = ""
    layers: int = 0
    d_model: int = 0
    vocab: int = 0
    holes: int = 0
    padding_rows: int = 0
    context: int = 0
    tied: bool = False
    neurons: int = 0
    experts: int = 0
    parameters: int = 0
    bytes: int = 0
    weights: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ListedBlock:
    """A block as `inspect` prints it. expert: None for a dense one."""

    layer: int
    expert: int | None
    shared: bool
    d_ff: int
    gated: bool


def measure_model(loaded: LoadedModel) -> ModelFacts:
    """Facts about an open model."""
    anatomy = loaded.anatomy
    unique = list(loaded.model.parameters())  # tied ones once; includes those on disk
    size, holes = measure_vocabulary(loaded.tokenizer, anatomy.head.vocab)
    return ModelFacts(
        architecture=anatomy.architecture,
        layers=anatomy.layers,
        d_model=anatomy.d_model,
        vocab=size - len(holes),
        holes=len(holes),
        padding_rows=anatomy.head.vocab - size,
        context=anatomy.context,
        tied=anatomy.head.tied,
        neurons=anatomy.neurons,
        experts=anatomy.experts,
        parameters=sum(p.numel() for p in unique),
        bytes=sum(p.numel() * p.element_size() for p in unique),
        weights=loaded.weights_format,
        notes=tuple(loaded.notes),
    )


def list_blocks(anatomy: Anatomy) -> tuple[ListedBlock, ...]:
    """The blocks of a model."""
    return tuple(
        ListedBlock(block.address.layer, block.address.expert, block.address.shared, block.d_ff, block.gated)
        for block in anatomy.blocks
    )
