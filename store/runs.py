"""Runs: questions under a key that hashes everything that changes the answer, stored unit by unit."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlite_utils import Database

from store.blobs import Array, Blob, encode_blob
from store.database import Store
from store.documents import Json, canonicalise, check_json, clean_text, now, write_json
from store.errors import DatabaseCorrupt, RunNotFound, StoreFull, UnitMissing, UnstorableValue
from store.reserve import reserve_released, shorten_log
from store.row_decoding import MAX_SECONDS, MAX_UNITS, ReadableRows, decode_row, read_readable, row_name

KEY_DIGITS = 32
"""Hexadecimal digits of a key: 128 bits of SHA-256."""

SEED_RANGE = range(-(2**63), 2**63)
"""Range of an INTEGER column."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that changes the answer, and the model's name, which does not.

    units: how many pieces (a block, a batch of prompts) the run consists of, 1 to MAX_UNITS. Raises
    UnstorableValue for parameters that are not strict JSON (NaN, infinity, objects) or a seed beyond 64 bits.
    """

    kind: str
    method_version: str
    model_fingerprint: str
    model_name: str
    dtype: str
    device: str
    parameters: Mapping[str, Json]
    seed: int | None
    units: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", check_json(dict(self.parameters), "parameters"))
        if self.seed is not None and self.seed not in SEED_RANGE:
            raise UnstorableValue(f"seed {self.seed}; it must fit in a signed 64-bit integer")
        if not 1 <= self.units <= MAX_UNITS:
            raise UnstorableValue(f"{self.units} units; a run has 1 to {MAX_UNITS}")

    @property
    def key(self) -> str:
        """The first 32 hexadecimal digits of SHA-256 over the canonical JSON of all fields but the name."""
        answer_depends_on = {name: value for name, value in vars(self).items() if name != "model_name"}
        return hashlib.sha256(canonicalise(answer_depends_on).encode()).hexdigest()[:KEY_DIGITS]


@dataclass(frozen=True)
class Run:
    """A run as stored. Times are ISO-8601 UTC; `seconds` of work in its stored units; `bytes` they take."""

    key: str
    kind: str
    method_version: str
    model_fingerprint: str
    model_name: str
    dtype: str
    device: str
    parameters: dict[str, Any]
    versions: dict[str, Any]
    seed: int | None
    units: int
    created_at: str
    finished_at: str | None
    seconds: float
    stored_units: int
    bytes: int

    @property
    def finished(self) -> bool:
        """Whether every unit is stored."""
        return self.finished_at is not None


@dataclass(frozen=True)
class NewUnit:
    """A unit to be stored. arrays: as `store.blobs.encode_blob` makes them; seconds: time the unit took;
    created_at: ISO-8601 UTC.

    Raises UnstorableValue for a payload that is not strict JSON and for a time below 0.
    """

    idx: int
    name: str
    payload: Json
    seconds: float
    created_at: str
    arrays: Mapping[str, Blob]

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= MAX_SECONDS:
            raise UnstorableValue(
                f"unit {self.idx} took {self.seconds} seconds; pass a finite time, 0 or more"
            )
        object.__setattr__(self, "payload", check_json(self.payload, "payload"))

    def row(self) -> dict[str, Any]:
        """Its columns in the table of units, but the run's key."""
        text = None if self.payload is None else write_json(self.payload)
        return {
            "idx": self.idx,
            "name": clean_text(self.name),
            "seconds": self.seconds,
            "created_at": self.created_at,
            "bytes": len(text or "") + sum(len(blob.data) for blob in self.arrays.values()),
            "payload": text,
            "payload_crc32": None if text is None else zlib.crc32(text.encode()),
        }


@dataclass(frozen=True)
class Unit:
    """One stored part of a run: its payload, and the names of its arrays."""

    idx: int
    name: str
    payload: Any
    seconds: float
    created_at: str
    arrays: tuple[str, ...] = field(default=())


def begin_run(store: Store, spec: RunSpec, versions: Mapping[str, Json]) -> Run:
    """The run with `spec.key`, created if missing; `versions` of the software stay as first given."""
    with store.transaction() as db:
        insert_run(db, spec, versions, now())
        return get_run(store, spec.key)


def insert_run(db: Database, spec: RunSpec, versions: Mapping[str, Json], created_at: str) -> None:
    """Add a run without units, if its key is new, to the transaction `db` is in."""
    made = {
        name: getattr(spec, name)
        for name in ("kind", "method_version", "model_fingerprint", "dtype", "device")
    }
    db.table("runs").insert(
        made
        | {"key": spec.key, "model_name": clean_text(spec.model_name)}
        | {"parameters": write_json(spec.parameters)}
        | {"versions": write_json(check_json(dict(versions), "versions"))}
        | {"seed": spec.seed, "units": spec.units, "created_at": created_at},
        ignore=True,
    )


def put_unit(
    store: Store,
    key: str,
    idx: int,
    *,
    name: str,
    arrays: Mapping[str, Array] | None = None,
    payload: Json = None,
    seconds: float,
    created_at: str | None = None,
) -> bool:
    """Store unit `idx` completely or not at all; False, without a change, if it is already stored.

    seconds: time the unit took. created_at: when, ISO-8601 UTC; None is now. The last unit to arrive
    finishes the run. RunNotFound, UnitMissing (`idx` outside the run), UnstorableValue, StoreFull.
    """
    blobs = {array_name: encode_blob(array, array_name) for array_name, array in (arrays or {}).items()}
    unit = NewUnit(idx, name, payload, seconds, created_at or now(), blobs)
    return put_units(store, key, [unit]) == 1


def put_units(store: Store, key: str, units: Iterable[NewUnit]) -> int:
    """Store those of `units` that are not stored yet, all or none; returns how many. The time per unit does
    not depend on their number.

    RunNotFound, UnitMissing (a number outside the run), UnstorableValue, StoreFull.
    """
    added, seconds = 0, 0.0
    with store.transaction() as db:
        count = _unit_count(store, key)
        for unit in units:
            if unit.idx not in range(count):
                raise UnitMissing(f"unit {unit.idx} of run {key}; it has units 0 to {count - 1}")
            if not _is_stored(store, key, unit.idx):
                _insert(db, key, unit)
                added, seconds = added + 1, seconds + unit.seconds
        if added:
            _account(db, key, seconds)
    return added


def list_stored_units(store: Store, key: str) -> set[int]:
    """The indices of the units of run `key` that are stored; empty for an unknown run."""
    rows = store.rows("SELECT run_key, idx FROM units WHERE run_key = ?", (key,))
    return {decode_row("units", row)["idx"] for row in rows}


def read_unit(store: Store, key: str, idx: int) -> Unit:
    """Unit `idx` of run `key`, without its arrays' bytes; RunNotFound, UnitMissing, DatabaseCorrupt."""
    rows = store.rows("SELECT * FROM units WHERE run_key = ? AND idx = ?", (key, idx))
    if not rows:
        run = get_run(store, key)
        raise UnitMissing(
            f"unit {idx} of {run.kind} run {key} is not stored ({run.stored_units} of {run.units} are); "
            "run it again: it resumes at the next unit"
        )
    unit = decode_unit(rows[0])
    sql = "SELECT run_key, unit_idx, name FROM arrays WHERE run_key = ? AND unit_idx = ? ORDER BY name"
    names = [decode_row("arrays", row)["name"] for row in store.rows(sql, (key, idx))]
    return Unit(idx, unit["name"], unit["payload"], unit["seconds"], unit["created_at"], tuple(names))


def decode_unit(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `units`, checked, its payload against its checksum too; DatabaseCorrupt."""
    unit, text = decode_row("units", row), row["payload"]
    if unit.get("payload_crc32") not in (None, None if text is None else zlib.crc32(text.encode())):
        raise DatabaseCorrupt(
            f"{row_name('units', row)}: the checksum of its payload differs: bytes changed on disk; "
            f"`python -m workbench runs delete {unit['run_key']}` and run it again"
        )
    return unit


def get_run(store: Store, key: str) -> Run:
    """The run with this key; RunNotFound."""
    run = find_run(store, key)
    if run is None:
        raise RunNotFound(
            f"run {key} is not in {store.path}; `python -m workbench runs list` lists the stored runs"
        )
    return run


def find_run(store: Store, key: str) -> Run | None:
    """The run with this key, or None; DatabaseCorrupt."""
    rows = store.rows(f"{_SELECT} WHERE key = ?", (key,))
    return _run(rows[0]) if rows else None


def list_runs(
    store: Store, *, kind: str | None = None, model_fingerprint: str | None = None, limit: int = 200
) -> ReadableRows[Run]:
    """Runs, newest first, at most `limit`; optionally of one kind and one model.

    Rows that cannot be read are left out, and named in `unreadable`.
    """
    wanted = {"kind": kind, "model_fingerprint": model_fingerprint}
    given = {column: value for column, value in wanted.items() if value is not None}
    where = " AND ".join(f"{column} = ?" for column in given) or "1"
    sql = f"{_SELECT} WHERE {where} ORDER BY created_at DESC, runs.rowid DESC LIMIT ?"
    return read_readable("runs", store.rows(sql, (*given.values(), limit)), _run)


def check_run(store: Store, key: str) -> None:
    """Raise RunNotFound if there is no run with this key; an unreadable one counts as present."""
    _unit_count(store, key)


def delete_run(store: Store, key: str) -> None:
    """Delete the run with its units and arrays, also where they cannot be read; RunNotFound.

    Works on a full disk, too. `free_space` then shrinks the file.
    """
    try:
        with store.transaction() as db:
            check_run(store, key)
            db.execute("DELETE FROM runs WHERE key = ?", (key,))
    except StoreFull:
        with reserve_released(store):
            _delete_in_pieces(store, key)


def _delete_in_pieces(store: Store, key: str) -> None:
    """Delete a run a few units at a time, so that the write-ahead log stays short."""
    while True:
        with store.transaction() as db:
            db.execute("UPDATE runs SET finished_at = NULL WHERE key = ?", (key,))
            sql = "DELETE FROM units WHERE rowid IN (SELECT rowid FROM units WHERE run_key = ? LIMIT 64)"
            gone = db.execute(sql, (key,)).rowcount
            if not gone:
                db.execute("DELETE FROM runs WHERE key = ?", (key,))
        shorten_log(store)
        if not gone:
            return


SUM_OF_BYTES = "coalesce(CAST(total(CASE typeof(bytes) WHEN 'integer' THEN bytes END) AS INTEGER), 0)"
"""Bytes of units; sizes that are no whole numbers, or too large to add up, raise nothing."""

_SELECT = f"""SELECT runs.*,
    (SELECT count(*) FROM units WHERE run_key = runs.key) AS stored_units,
    (SELECT {SUM_OF_BYTES} FROM units WHERE run_key = runs.key) AS bytes FROM runs"""


def _run(row: Mapping[str, Any]) -> Run:
    return Run(**decode_row("runs", row))


def _unit_count(store: Store, key: str) -> int:
    """The number of units of a run, from its row alone, whatever else is in it; RunNotFound."""
    rows = store.rows("SELECT units FROM runs WHERE key = ?", (key,))
    if not rows:
        get_run(store, key)  # raises RunNotFound
    return rows[0]["units"] if isinstance(rows[0]["units"], int) else 0


def _is_stored(store: Store, key: str, idx: int) -> bool:
    return bool(store.rows("SELECT 1 FROM units WHERE run_key = ? AND idx = ?", (key, idx)))


def _insert(db: Database, key: str, unit: NewUnit) -> None:
    _insert_row(db, "units", unit.row() | {"run_key": key})
    place = {"run_key": key, "unit_idx": unit.idx}
    for name, blob in unit.arrays.items():
        _insert_row(db, "arrays", place | {"name": clean_text(name)} | vars(blob))


def _insert_row(db: Database, table: str, row: Mapping[str, Any]) -> None:
    """Insert without reading the schema first, which would hold the lock several times as long."""
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


def _account(db: Database, key: str, seconds: float) -> None:
    """Add the new unit's time to its run, and finish the run if nothing is missing."""
    db.execute(
        """UPDATE runs SET seconds = min(seconds + ?, ?), finished_at = CASE WHEN
            (SELECT count(*) FROM units WHERE run_key = runs.key) = runs.units THEN ? END WHERE key = ?""",
        (seconds, MAX_SECONDS, now(), key),
    )
