"""Salvage of a damaged database, row by row, with its consistency restored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from store.arrays import decode_array
from store.errors import DatabaseCorrupt
from store.row_decoding import decode_row
from store.runs import decode_unit

TABLES = ("models", "files", "runs", "units", "arrays", "findings", "jobs")
"""User data; the full-text index is rebuilt from the findings."""

BLIND = 100_000
"""The last rowid to try if neither the table nor an index gives it."""

TRIES = 1_000_000
"""Failed reads after which the rest of a table is given up: a damaged last rowid may be any number."""

_DAMAGE = (sqlite3.Error, MemoryError)  # a damaged length may request more memory than there is

_ORPHANS = """
DELETE FROM units WHERE run_key NOT IN (SELECT key FROM runs);
DELETE FROM units WHERE bytes <> length(coalesce(payload, '')) + (
    SELECT coalesce(sum(length(data)), 0) FROM arrays
    WHERE arrays.run_key = units.run_key AND unit_idx = idx);
DELETE FROM arrays WHERE NOT EXISTS (
    SELECT 1 FROM units WHERE units.run_key = arrays.run_key AND idx = unit_idx);
UPDATE runs SET seconds = (SELECT min(coalesce(sum(seconds), 0), 1e12) FROM units WHERE run_key = key),
    finished_at = CASE WHEN units = (SELECT count(*) FROM units WHERE run_key = key) THEN finished_at END;
"""


@dataclass(frozen=True)
class _Extent:
    """The last rowid of a table and, if an index can be counted, its number of rows."""

    last: int
    rows: int | None


def salvage_table(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int | None:
    """Copy the sound rows of `table` that can be read; returns how many rows there were, None if unknown."""
    try:
        there = {row[1] for row in old.execute(f"PRAGMA table_info({table})")}
    except _DAMAGE:
        there = set()
    columns = [row[1] for row in new.execute(f"PRAGMA table_info({table})") if row[1] in there]
    if not columns:
        return None
    named, marks = ", ".join(f'"{column}"' for column in columns), ", ".join("?" * len(columns))
    extent, seen = _extent(old, table), _Seen()
    sql = f"SELECT rowid, {named} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    for values in _readable(old, sql, extent.last, seen):
        if _is_sound(table, dict(zip(columns, values, strict=True))):
            try:
                new.execute(f"INSERT INTO {table} ({named}) VALUES ({marks})", values)
            except sqlite3.IntegrityError:
                continue  # a value that no sound row has
    if extent.rows is None and seen.failures:
        return None
    return max(seen.rows, extent.rows or 0)


def drop_orphans(new: sqlite3.Connection) -> None:
    """Drop units without their run, units of a changed size, and arrays without their unit; a run that lost
    units becomes unfinished, so that running it again adds them.
    """
    for statement in _ORPHANS.split(";\n"):
        new.execute(statement)


@dataclass
class _Seen:
    rows: int = 0
    failures: int = 0


def _extent(old: sqlite3.Connection, table: str) -> _Extent:
    last = [row[0] for row in _try_read(old, f"SELECT max(rowid) FROM {table} NOT INDEXED")]
    counts: list[int] = []
    for index in _try_read(old, f"PRAGMA index_list({table})"):
        name, partial = index[1], index[4]
        sql = f'SELECT count(*), max(rowid) FROM {table} INDEXED BY "{name}"'
        for count, highest in [] if partial else _try_read(old, sql):
            counts.append(count)
            last.append(highest)
    known = [rowid for rowid in last if rowid is not None]
    return _Extent(max(known, default=0 if last else BLIND), max(counts, default=None))


def _try_read(old: sqlite3.Connection, sql: str) -> list[tuple[Any, ...]]:
    try:
        return old.execute(sql).fetchall()
    except _DAMAGE:
        return []


def _readable(old: sqlite3.Connection, sql: str, last: int, seen: _Seen) -> Iterator[tuple[Any, ...]]:
    """The rows up to rowid `last`; a failing range is halved until only unreadable rows are left."""
    ranges = [(1, last)]
    while ranges and seen.failures < TRIES:
        low, high = ranges.pop()
        start = low
        try:
            for rowid, *values in old.execute(sql, (low, high)):
                low = max(low, rowid + 1)
                seen.rows += 1
                yield tuple(values)
        except _DAMAGE:
            seen.failures += 1
            if low < high:
                middle = (low + high) // 2
                ranges += [(middle + 1, high), (low, middle)]
            elif start < low == high:
                ranges.append((low, high))


def _is_sound(table: str, row: dict[str, Any]) -> bool:
    """Whether the row is intact, judged by types, JSON, shapes and checksums."""
    try:
        if table == "arrays":
            decode_array(row)
        elif table == "units":
            decode_unit(row)
        else:
            decode_row(table, row)
    except DatabaseCorrupt:
        return False
    return True
