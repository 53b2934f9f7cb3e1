"""What a filled database of each schema looks like, as SQL: proof that newer versions still open it.

    python -m tests.store.dump_schema      writes schemas/NAME.sql for the newest migration, once

A dump is never written again once released: it stands for files people have.
"""

import itertools
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import numpy as np
from sqlite_utils import Database

from store import (
    FileHashes,
    Finding,
    JobFailure,
    JobOrder,
    Owner,
    RunSpec,
    Store,
    ask_job,
    begin_run,
    finish_job,
    open_store,
    put_unit,
    remember_model,
    report_job,
    take_job,
)
from store.blobs import Array
from store.findings import insert_findings
from store.migrations import SCHEMA

SCHEMAS = Path(__file__).parent / "schemas"
MIGRATIONS = "_sqlite_migrations"


def names() -> list[str]:
    """Every migration, in order."""
    with closing(Database(memory=True)) as empty:
        return [migration.name for migration in SCHEMA.pending(empty)]


def fill(store: Store) -> None:
    """One of everything: a model, a file hash, a finished and an unfinished run, two findings, two jobs."""
    remember_model(
        store, fingerprint="f" * 64, name="demo/base", revision=None, path="/é", facts={"layers": 2}
    )
    FileHashes(store)["/models/a.safetensors", 10, 1_700_000_000_000_000_000, 2**64 - 1] = "ab" * 32
    given = {"model_fingerprint": "f" * 64, "model_name": "demo/base", "dtype": "float32", "device": "cpu"}
    done = RunSpec("decode", "1", **given, parameters={"site": "up", "top_k": 10}, seed=None, units=1)
    begin_run(store, done, {"torch": "2.13.0"})
    put_unit(store, done.key, 0, name="block 0", arrays={"ids": np.arange(6).reshape(2, 3)}, seconds=0.5)
    part = RunSpec("find", "2", **given, parameters={"words": ["Paris", "🗼"]}, seed=-7, units=3)
    begin_run(store, part, {})
    odd: dict[str, Array] = {
        "x": np.array([np.nan, -0.0, 1e-45], np.float32),
        "none": np.zeros((0, 3)),
        "one": np.array(True),
    }
    put_unit(store, part.key, 0, name="a 'quoted' name", arrays=odd, payload={"text": "nul \0 é"}, seconds=1)
    put_unit(store, part.key, 2, name="block 2", payload=[1, None, 0.1], seconds=0)
    about = ("demo/base", "f" * 64, "generation")
    evidence = {"prompt": "The capital of France is", "seed": 2**63}
    for place, title in enumerate(("A capital neuron", "Ein Turm 🗼")):
        moment = f"2026-01-0{place + 1}T00:00:00.000+00:00"
        finding = Finding(f"{place}" * 32, title, "a note", ("city",), *about, evidence, moment, moment)
        insert_findings(store, [finding])
    _fill_jobs(store, part.key)


def _fill_jobs(store: Store, run_key: str) -> None:
    """A failed job and a running one, asked for with the same key."""
    owner = Owner("desk", 4711, 1_767_225_600.25)
    order = JobOrder("find", "Find neurons", "k" * 32, {"words": ["Paris"]}, total=3, unit="blocks")
    failed, _ = ask_job(store, order, owner)
    take_job(store, failed.id, owner, replacing=owner)
    finish_job(store, failed.id, owner, "failed", failure=JobFailure("StoreFull", "No room", "é"))
    running, _ = ask_job(store, order, owner)
    take_job(store, running.id, owner, replacing=owner)
    report_job(store, running.id, owner, done=2, total=3, unit="blocks", run_key=run_key)


def dump(connection: sqlite3.Connection) -> str:
    """Tables, rows, then indexes and triggers, as SQL that always comes out the same."""
    made = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL ORDER BY rowid")
    parts = [part for part in made.fetchall() if "findings_fts_" not in part[1] and part[1][:7] != "sqlite_"]
    tables = [part for part in parts if part[0] == "table"]
    lines = [f"{sql};" for _, _, sql in tables]
    for _, name, _ in tables:
        lines += _rows(connection, name)
    return "\n".join([*lines, *(f"{sql};" for kind, _, sql in parts if kind != "table")]) + "\n"


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    named = ", ".join(f'"{column}"' for column in ["rowid", *columns])
    quoted = " || ', ' || ".join(f'quote("{column}")' for column in ["rowid", *columns])
    for (values,) in connection.execute(f"SELECT {quoted} FROM {table} ORDER BY rowid"):
        yield f"INSERT INTO {table} ({named}) VALUES ({values});"


@contextmanager
def stopped_clock() -> Iterator[None]:
    """Every time asked for is a second after the one before, from the first of 2026 on."""
    ticks = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in itertools.count())
    with ExitStack() as stack:
        for module in [name for name in sys.modules if name.startswith("store.")]:
            if hasattr(sys.modules[module], "now"):
                told = mock.Mock(side_effect=lambda: next(ticks).isoformat(timespec="milliseconds"))
                stack.enter_context(mock.patch(f"{module}.now", told))
        yield


def newest_dump() -> str:
    """A filled database of the newest schema."""
    with tempfile.TemporaryDirectory() as folder, stopped_clock():
        store = open_store(Path(folder) / "headlamp.db")
        with closing(store):
            fill(store)
            store.db.execute(f"UPDATE {MIGRATIONS} SET applied_at = '2026-01-01 00:00:00.000000+00:00'")
            return dump(store.db.conn)


def main() -> None:
    """Write the newest dump; an error where it is there already."""
    SCHEMAS.mkdir(exist_ok=True)
    with (SCHEMAS / f"{names()[-1]}.sql").open("x", encoding="utf-8", newline="\n") as file:
        file.write(newest_dump())


if __name__ == "__main__":
    main()
