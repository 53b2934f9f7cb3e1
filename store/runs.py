"""Runs: what was asked, under a key that hashes everything that changes the answer, unit by unit."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlite_utils import Database

from store.blobs import Array, Blob, encode
from store.database import Store
from store.documents import Json, canonical, checked_json, clean_text, document, now
from store.errors import RunNotFound, UnitMissing, UnstorableValue

KEY_DIGITS = 32
"""Hexadecimal digits of a key: 128 bits of SHA-256."""

SEED_RANGE = range(-(2**63), 2**63)
"""What an INTEGER column holds."""


@dataclass(frozen=True)
class RunSpec:
    """Everything that changes the answer, and the model's name, which does not.

    units: how many pieces (a block, a batch of prompts) the run consists of. Raises UnstorableValue
    for parameters that are not strict JSON (NaN, infinity, objects) or a seed beyond 64 bits.
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
        object.__setattr__(self, "parameters", checked_json(dict(self.parameters), "parameters"))
        if self.seed is not None and self.seed not in SEED_RANGE:
            raise UnstorableValue(f"seed {self.seed}; it must fit in a signed 64-bit integer")
        if self.units < 1:
            raise UnstorableValue(f"{self.units} units; a run has at least one")

    @property
    def key(self) -> str:
        """The first 32 hexadecimal digits of SHA-256 over the canonical JSON of all fields but the name."""
        answer_depends_on = {name: value for name, value in vars(self).items() if name != "model_name"}
        return hashlib.sha256(canonical(answer_depends_on).encode()).hexdigest()[:KEY_DIGITS]


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
class Unit:
    """One stored piece of a run: its payload, and the names of the arrays beside it."""

    idx: int
    name: str
    payload: Any
    seconds: float
    created_at: str
    arrays: tuple[str, ...] = field(default=())


def begin_run(store: Store, spec: RunSpec, versions: Mapping[str, Json]) -> Run:
    """The run with `spec.key`, made where there is none; `versions` of the software stay as first given."""
    with store.transaction() as db:
        insert_run(db, spec, versions, now())
        return get_run(store, spec.key)


def insert_run(db: Database, spec: RunSpec, versions: Mapping[str, Json], created_at: str) -> None:
    """Add a run without units, where its key is new, to the transaction `db` is in."""
    made = {
        name: getattr(spec, name)
        for name in ("kind", "method_version", "model_fingerprint", "dtype", "device")
    }
    db.table("runs").insert(
        made
        | {"key": spec.key, "model_name": clean_text(spec.model_name)}
        | {"parameters": document(spec.parameters)}
        | {"versions": document(checked_json(dict(versions), "versions"))}
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
    """Store unit `idx` whole, or nothing of it; False, and nothing changes, where it is already stored.

    seconds: time the unit took. created_at: when, ISO-8601 UTC; None is now. The last unit to arrive
    finishes the run. RunNotFound, UnitMissing (`idx` outside the run), UnstorableValue, StoreFull.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UnstorableValue(f"unit {idx} took {seconds} seconds; pass a finite time, 0 or more")
    blobs = {array_name: encode(array, array_name) for array_name, array in (arrays or {}).items()}
    text = None if payload is None else document(checked_json(payload, "payload"))
    unit = {"run_key": key, "idx": idx, "name": clean_text(name), "seconds": seconds, "payload": text}
    unit |= {"created_at": created_at or now()}
    with store.transaction() as db:
        if idx in _stored_of(store, key, idx):
            return False
        _insert(db, unit, blobs)
        _account(db, key, seconds)
    return True


def stored_units(store: Store, key: str) -> set[int]:
    """The indices of the units of run `key` that are stored; empty for an unknown run."""
    return {row["idx"] for row in store.rows("SELECT idx FROM units WHERE run_key = ?", (key,))}


def read_unit(store: Store, key: str, idx: int) -> Unit:
    """Unit `idx` of run `key`, without its arrays' bytes; RunNotFound, UnitMissing."""
    rows = store.rows("SELECT * FROM units WHERE run_key = ? AND idx = ?", (key, idx))
    if not rows:
        run = get_run(store, key)
        raise UnitMissing(
            f"unit {idx} of {run.kind} run {key} is not stored ({run.stored_units} of {run.units} are); "
            "run it again: it resumes at the next unit"
        )
    names = store.rows("SELECT name FROM arrays WHERE run_key = ? AND unit_idx = ? ORDER BY name", (key, idx))
    row = rows[0]
    payload = None if row["payload"] is None else json.loads(row["payload"])
    return Unit(
        idx, row["name"], payload, row["seconds"], row["created_at"], tuple(array["name"] for array in names)
    )


def get_run(store: Store, key: str) -> Run:
    """The run with this key; RunNotFound."""
    run = find_run(store, key)
    if run is None:
        raise RunNotFound(f"run {key} is not in {store.path}; `python -m workbench runs list` shows what is")
    return run


def find_run(store: Store, key: str) -> Run | None:
    """The run with this key, or None."""
    rows = store.rows(f"{_SELECT} WHERE key = ?", (key,))
    return _run(rows[0]) if rows else None


def list_runs(
    store: Store, *, kind: str | None = None, model_fingerprint: str | None = None, limit: int = 200
) -> list[Run]:
    """Runs, newest first, at most `limit` of them; of one kind and one model where named."""
    wanted = {"kind": kind, "model_fingerprint": model_fingerprint}
    given = {column: value for column, value in wanted.items() if value is not None}
    where = " AND ".join(f"{column} = ?" for column in given) or "1"
    sql = f"{_SELECT} WHERE {where} ORDER BY created_at DESC, runs.rowid DESC LIMIT ?"
    return [_run(row) for row in store.rows(sql, (*given.values(), limit))]


def delete_run(store: Store, key: str) -> None:
    """Delete the run with its units and arrays; RunNotFound. `free_space` then shrinks the file."""
    with store.transaction() as db:
        get_run(store, key)
        db.execute("DELETE FROM runs WHERE key = ?", (key,))


_SELECT = """SELECT runs.*,
    (SELECT count(*) FROM units WHERE run_key = runs.key) AS stored_units,
    (SELECT coalesce(sum(bytes), 0) FROM units WHERE run_key = runs.key) AS bytes FROM runs"""


def _run(row: dict[str, Any]) -> Run:
    documents = {name: json.loads(row[name]) for name in ("parameters", "versions")}
    return Run(**(row | documents))


def _stored_of(store: Store, key: str, idx: int) -> set[int]:
    run = get_run(store, key)
    if idx not in range(run.units):
        raise UnitMissing(f"unit {idx} of {run.kind} run {key}; it has units 0 to {run.units - 1}")
    return stored_units(store, key)


def _insert(db: Database, unit: dict[str, Any], blobs: Mapping[str, Blob]) -> None:
    size = len(unit["payload"] or "") + sum(len(blob.data) for blob in blobs.values())
    db.table("units").insert(unit | {"bytes": size})
    place = {"run_key": unit["run_key"], "unit_idx": unit["idx"]}
    for name, blob in blobs.items():
        db.table("arrays").insert(place | {"name": clean_text(name)} | vars(blob))


def _account(db: Database, key: str, seconds: float) -> None:
    """Add the new unit's time to its run, and finish the run when nothing is missing."""
    db.execute(
        """UPDATE runs SET seconds = seconds + ?, finished_at = CASE WHEN
            (SELECT count(*) FROM units WHERE run_key = runs.key) = runs.units THEN ? END WHERE key = ?""",
        (seconds, now(), key),
    )
