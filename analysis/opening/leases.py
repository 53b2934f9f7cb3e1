"""Models in memory: loaded once per process, leased during use, released afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from analysis.anatomy.proofs import KeptProofs
from analysis.checkpoints.devices import free_unused
from analysis.checkpoints.fingerprint import HashCache
from analysis.opening.models import LoadedModel, ModelRef, load_model, resolve_ref

MOST_LOADED = 2
"""Unused models that stay in memory; the least recently used is evicted first."""


@dataclass(eq=False)
class _Entry:
    """One copy in memory, or being loaded. `leases`: how many users it has, waiting ones included. unwanted:
    evict once unused.
    """

    future: Future[LoadedModel] = field(default_factory=Future)
    leases: int = 0
    unwanted: bool = False

    @property
    def stale(self) -> bool:
        """Whether its files were replaced or rewritten since they were read."""
        return self.future.done() and self.future.result().changed_on_disk


_entries: dict[ModelRef, _Entry] = {}
_holds: Counter[ModelRef] = Counter()
_table = threading.Lock()
"""Guards these tables only; loading one model does not block another."""


@contextmanager
def lease_model(
    ref: ModelRef,
    hashes: HashCache | None = None,
    proofs: KeptProofs | None = None,
    *,
    fetch: bool = False,
) -> Iterator[LoadedModel]:
    """The loaded model, protected from eviction while the body runs. Loads it on first use in this process.

    After its last lease a model stays until MOST_LOADED others have been used, until its files change
    (the next lease then reloads it), or until it is released.
    """
    ref = resolve_ref(ref)
    entry, is_new = _lease(ref)
    try:
        if is_new:
            _load_into(entry, ref, hashes, proofs, fetch=fetch)
        yield entry.future.result()
    finally:
        with _table:
            entry.leases -= 1
        del entry
        _evict_idle(MOST_LOADED)


def hold_model(ref: ModelRef) -> ModelRef:
    """Register that a session has this model open, in use or not; `release_model` ends it."""
    ref = resolve_ref(ref)
    with _table:
        _holds[ref] += 1
    return ref


def release_model(ref: ModelRef) -> None:
    """End one `hold_model`. A model without holds leaves memory once its last lease ends."""
    with _table:
        _holds[ref] -= 1
        if _holds[ref] > 0:
            return
        del _holds[ref]
        if ref in _entries:
            _entries[ref].unwanted = True
    _evict_idle(MOST_LOADED)


def is_loaded(ref: ModelRef) -> bool:
    """Whether a model is in memory or being loaded."""
    with _table:
        entry = _entries.get(resolve_ref(ref))
        return entry is not None and not entry.stale


def _lease(ref: ModelRef) -> tuple[_Entry, bool]:
    with _table:
        entry = _entries.pop(ref, None)
        is_new = entry is None or entry.stale
        if entry is None or is_new:
            entry = _Entry()
        entry.unwanted = False
        _entries[ref] = entry
        entry.leases += 1
    if is_new:
        _evict_idle(MOST_LOADED)
    return entry, is_new


def _load_into(
    entry: _Entry, ref: ModelRef, hashes: HashCache | None, proofs: KeptProofs | None, *, fetch: bool
) -> None:
    try:
        entry.future.set_result(load_model(ref, hashes, proofs, fetch=fetch))
    except BaseException as error:
        with _table:
            if _entries.get(ref) is entry:
                del _entries[ref]
        entry.future.set_exception(error)


def _evict_idle(most: int) -> None:
    """Evict unused models, beyond `most` or unwanted, and free their memory."""
    with _table:
        idle = [ref for ref, entry in _entries.items() if not entry.leases]
        gone = idle[: max(len(_entries) - most, 0)]
        gone += [ref for ref in idle if _entries[ref].unwanted and ref not in gone]
        for ref in gone:
            del _entries[ref]
    if gone:
        free_unused()
