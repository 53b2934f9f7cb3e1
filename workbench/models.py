"""Open models and say what they are; remember those that were opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakKeyDictionary

from analysis.anatomy.anatomy import Anatomy
from analysis.checkpoints.fingerprint import known_fingerprint
from analysis.checkpoints.hub import HubModel
from analysis.checkpoints.sources import resolve
from analysis.errors import ModelNotFound
from analysis.opening.leases import hold, is_loaded, leased, release
from analysis.opening.memory import Fit, fit, fit_at_hub
from analysis.opening.models import LoadedModel, ModelRef, settled
from demo import BUNDLED
from store import FileHashes, Store, StoreError, list_models, remember_model

__all__ = [
    "ModelChoice",
    "block_facts",
    "fit_of",
    "hold",
    "is_loaded",
    "model_choices",
    "model_facts",
    "opened",
    "release",
]


@dataclass(frozen=True)
class ModelChoice:
    """A model that can be opened: bundled, or opened here before."""

    name: str
    source: Literal["bundled", "known"]
    path: Path
    fingerprint: str | None
    facts: dict[str, Any]


def model_choices(store: Store) -> list[ModelChoice]:
    """Bundled models first, then those opened before whose folder is still there."""
    hashes = FileHashes(store)
    choices = [
        ModelChoice(name, "bundled", path, known_fingerprint(path, hashes), {})
        for name, path in BUNDLED.items()
    ]
    seen: set[tuple[str, str | None]] = set()
    for row in list_models(store):
        if (row.name, row.path) in seen:
            continue  # an older state of the same folder
        seen.add((row.name, row.path))
        if row.name not in BUNDLED and row.path and Path(row.path).is_dir():
            choices.append(ModelChoice(row.name, "known", Path(row.path), row.fingerprint, row.facts))
    return choices


def fit_of(ref: ModelRef, context: int | None = None, at_hub: HubModel | None = None) -> Fit | None:
    """What a model needs in memory for `context` tokens and whether it fits; of one that is not on this
    machine, what the Hub says of it, else None. Of one that is open already, what it needs counts as taken.

    Reads its configuration and the headers of its weights, no weight. Raises a ModelError for a folder that
    is no model, and where the Hub does not give these.
    """
    wanted = settled(ref)
    asked = (wanted.resolved_dtype, context, wanted.device)
    try:
        folder = resolve(ref.name, ref.revision)
    except ModelNotFound:
        return None if at_hub is None else fit_at_hub(at_hub, *asked)
    return fit(folder, *asked)


@contextmanager
def opened(ref: ModelRef, store: Store, *, fetch: bool = False) -> Iterator[LoadedModel]:
    """The loaded model, leased while the body runs, and remembered in the store.

    fetch: whether it may be downloaded from the Hub; NotFetched is raised where it would have to be.
    """
    with leased(ref, FileHashes(store), fetch=fetch) as loaded:
        if store.path not in _remembered.setdefault(loaded, set()):
            _remember(store, loaded)
        yield loaded


_remembered: WeakKeyDictionary[LoadedModel, set[Path]] = WeakKeyDictionary()
"""The databases that know of each model in memory, so that opening it again writes nothing."""


def _remember(store: Store, loaded: LoadedModel) -> None:
    """A store that cannot be written (full, read-only, busy) does not keep a model from being used."""
    with suppress(StoreError):
        remember_model(
            store,
            fingerprint=loaded.fingerprint,
            name=loaded.ref.name,
            revision=loaded.ref.revision,
            path=str(loaded.path),
            facts=model_facts(loaded),
        )
        _remembered[loaded].add(store.path)


def model_facts(loaded: LoadedModel) -> dict[str, Any]:
    """What `inspect` prints of a model, without its list of blocks."""
    anatomy = loaded.anatomy
    unique = list(loaded.model.parameters())  # tied ones once; also those that stay on disk
    return {
        "architecture": anatomy.architecture,
        "layers": anatomy.layers,
        "d_model": anatomy.d_model,
        "vocab": len(loaded.vocabulary),
        "padding_rows": loaded.vocabulary.padding_rows,
        "context": anatomy.context,
        "tied": anatomy.head.tied,
        "neurons": anatomy.neurons,
        "experts": anatomy.experts,
        "parameters": sum(p.numel() for p in unique),
        "bytes": sum(p.numel() * p.element_size() for p in unique),
    }


def block_facts(anatomy: Anatomy) -> list[dict[str, Any]]:
    """The blocks as `inspect` prints them."""
    return [
        {
            "layer": block.address.layer,
            "expert": block.address.expert,
            "shared": block.address.shared,
            "d_ff": block.d_ff,
            "gated": block.gated,
        }
        for block in anatomy.blocks
    ]
