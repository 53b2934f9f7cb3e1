"""Models in memory: each loaded once per process, leased while somebody uses it, given back afterwards."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from analysis.checkpoints.devices import give_back
from analysis.checkpoints.fingerprint import HashCache
from analysis.opening.models import LoadedModel, ModelRef, load_model, settled

MOST_LOADED = 2
"""Models that stay in memory once nobody uses them; the least recently used goes first."""


@dataclass(eq=False)
class _Entry:
    """One copy in memory, or on its way there. `leases`: how many use it or wait for it. unwanted: whether it
    goes as soon as nobody does."""

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
"""Guards these tables alone; loading one model keeps nobody from using another."""


@contextmanager
def leased(ref: ModelRef, hashes: HashCache | None = None, *, fetch: bool = False) -> Iterator[LoadedModel]:
    """The loaded model, safe from eviction while the body runs. Loads it on first use in this process.

    Once its last lease ends, a model stays until MOST_LOADED others have been used after it, until its
    files change (then the next lease loads it anew), or until whoever held it lets go of it.
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
        del entry
        _evict_idle(MOST_LOADED)


def hold(ref: ModelRef) -> ModelRef:
    """Say that somebody has this model open, whether it is in use now or not; `release` ends it."""
    ref = settled(ref)
    with _table:
        _holds[ref] += 1
    return ref


def release(ref: ModelRef) -> None:
    """End one `hold`. A model that nobody holds any more leaves memory once its last lease ends."""
    with _table:
        _holds[ref] -= 1
        if _holds[ref] > 0:
            return
        del _holds[ref]
        if ref in _entries:
            _entries[ref].unwanted = True
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
            entry = _Entry()
        entry.unwanted = False
        _entries[ref] = entry
        entry.leases += 1
    if is_new:
        _evict_idle(MOST_LOADED)
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
    """Let go of models nobody uses, beyond `most` or unwanted, and give their memory back."""
    with _table:
        idle = [ref for ref, entry in _entries.items() if not entry.leases]
        gone = idle[: max(len(_entries) - most, 0)]
        gone += [ref for ref in idle if _entries[ref].unwanted and ref not in gone]
        for ref in gone:
            del _entries[ref]
    if gone:
        give_back()
