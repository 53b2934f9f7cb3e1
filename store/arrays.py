"""Reading of arrays stored by units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from store.blobs import Array, Blob, decode_blob
from store.database import Store
from store.errors import UnitMissing
from store.row_decoding import decode_row
from store.runs import Run, get_run, list_stored_units


def read_array(store: Store, key: str, idx: int, name: str) -> Array:
    """The array `name` of unit `idx` of run `key`, read-only.

    RunNotFound, UnitMissing (the unit is not stored, or holds no such array), DatabaseCorrupt.
    """
    rows = store.rows(
        "SELECT * FROM arrays WHERE run_key = ? AND unit_idx = ? AND name = ?", (key, idx, name)
    )
    if not rows:
        raise _why_missing(store, get_run(store, key), [idx], name)
    return decode_array(rows[0])


def read_arrays(store: Store, key: str, name: str) -> list[Array]:
    """The array `name` of every unit of run `key`, in unit order, read-only.

    RunNotFound, UnitMissing (which units are not stored yet, or hold no such array), DatabaseCorrupt.
    """
    run = get_run(store, key)
    rows = store.rows("SELECT * FROM arrays WHERE run_key = ? AND name = ? ORDER BY unit_idx", (key, name))
    if len(rows) < run.units:
        absent = sorted(set(range(run.units)) - {row["unit_idx"] for row in rows})
        raise _why_missing(store, run, absent, name)
    return [decode_array(row) for row in rows]


def read_arrays_held(store: Store, key: str, name: str) -> list[Array | None]:
    """The array `name` of every unit of run `key`, in unit order, read-only; None for units without it, as of
    an earlier version.

    RunNotFound, DatabaseCorrupt.
    """
    run = get_run(store, key)
    rows = store.rows("SELECT * FROM arrays WHERE run_key = ? AND name = ? ORDER BY unit_idx", (key, name))
    held = {row["unit_idx"]: decode_array(row) for row in rows}
    return [held.get(idx) for idx in range(run.units)]


def decode_array(row: Mapping[str, Any]) -> Array:
    """The array in a row of `arrays`, read-only; DatabaseCorrupt names unit and run."""
    found = decode_row("arrays", row)
    where = f"array {found['name']!r} of unit {found['unit_idx']}, run {found['run_key']}"
    return decode_blob(Blob(found["dtype"], found["shape"], found["data"], found.get("crc32")), where)


def _why_missing(store: Store, run: Run, absent: Sequence[int], name: str) -> UnitMissing:
    there = list_stored_units(store, run.key)
    not_stored = [idx for idx in absent if idx not in there]
    if not_stored:
        return UnitMissing(
            f"{run.kind} run {run.key} lacks {_units(not_stored)} ({len(there)} of {run.units} stored); "
            "run it again: it keeps what is stored and resumes at the next unit"
        )
    held = store.rows("SELECT DISTINCT name FROM arrays WHERE run_key = ? ORDER BY name", (run.key,))
    names = ", ".join(str(row["name"]) for row in held) or "none"
    which = _units(list(absent))
    return UnitMissing(f"{which} of {run.kind} run {run.key}: no array {name!r}; the run's arrays: {names}")


def _units(indices: list[int]) -> str:
    """Indices as ranges: `units 0-3, 7`."""
    ranges: list[list[int]] = []
    for idx in indices:
        if ranges and idx == ranges[-1][1] + 1:
            ranges[-1][1] = idx
        else:
            ranges.append([idx, idx])
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return ("unit " if len(indices) == 1 else "units ") + ", ".join(spans)
