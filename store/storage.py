"""Disk space of the store, and freeing what deleted runs left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from store.database import Store
from store.errors import StoreFull, translate_errors
from store.reserve import reserve_released, shorten_log
from store.runs import SUM_OF_BYTES

INCREMENTAL = 2
"""SQLite's number for a file that can shrink incrementally."""

PIECE_PAGES = 512


@dataclass(frozen=True)
class Storage:
    """Sizes in bytes. file_bytes: the database with its write-ahead log; reclaimable_bytes: what `free_space`
    would free; kind_bytes: payloads and arrays per kind of run.
    """

    file_bytes: int
    reclaimable_bytes: int
    kind_bytes: Mapping[str, int]
    free_disk_bytes: int


def measure_storage(store: Store) -> Storage:
    """What the store takes now and the free space on its disk."""
    kinds = store.rows(
        f"SELECT kind, {SUM_OF_BYTES} "
        "AS bytes FROM units JOIN runs ON key = run_key "
        "GROUP BY kind ORDER BY kind"
    )
    with translate_errors(store.path):
        free = shutil.disk_usage(store.path.parent).free
    return Storage(
        _file_bytes(store),
        _pragma(store, "freelist_count") * _pragma(store, "page_size"),
        {str(row["kind"]): row["bytes"] for row in kinds},
        free,
    )


def free_space(store: Store) -> int:
    """Shrink the file to its contents; returns the freed bytes.

    By a copy if the disk has room for one, else incrementally, which is less compact.
    DatabaseBusy while another process writes; StoreFull if the disk is full and an earlier version
    created the file, which then cannot shrink incrementally.
    """
    before = _file_bytes(store)
    try:
        with translate_errors(store.path):
            store.db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of the copy; the old file's stays
            store.db.vacuum()
    except StoreFull:
        if _pragma(store, "auto_vacuum") != INCREMENTAL:
            raise
        with reserve_released(store):
            _shrink_in_pieces(store)
    shorten_log(store)
    return max(0, before - _file_bytes(store))


def _shrink_in_pieces(store: Store) -> None:
    unused = _pragma(store, "freelist_count")
    while unused:
        with translate_errors(store.path):
            store.db.execute(f"PRAGMA incremental_vacuum({PIECE_PAGES})").fetchall()
        shorten_log(store)
        before, unused = unused, _pragma(store, "freelist_count")
        if unused >= before:
            return


def _pragma(store: Store, name: str) -> int:
    return int(store.rows(f"PRAGMA {name}")[0][name])


def _file_bytes(store: Store) -> int:
    files = [store.path, store.path.with_name(store.path.name + "-wal")]
    return sum(file.stat().st_size for file in files if file.exists())
