"""Files of every schema there was open at the newest one, with everything in them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from store import (
    FileHashes,
    Store,
    get_job,
    list_findings,
    list_jobs,
    list_models,
    list_runs,
    open_store,
    read_array,
    read_unit,
)
from store.migrations import SCHEMA
from tests.store.dump_schema import MIGRATIONS, SCHEMAS, dump, names, newest_dump

DUMPS = sorted(SCHEMAS.glob("*.sql"))


def load(file: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(file.read_text(encoding="utf-8"))


def tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, but for the record of migrations."""
    with closing(sqlite3.connect(path)) as connection:
        database = Database(connection)
        found = [name for name in database.table_names() if name not in (MIGRATIONS, "sqlite_sequence")]
        kept = [name for name in found if not name.startswith("findings_fts_")]
        return {name: list(database.query(f"SELECT rowid, * FROM {name}")) for name in kept}


def dumped(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return dump(connection)


def test_every_migration_has_its_dump() -> None:
    assert [file.stem for file in DUMPS] == names(), "run `python -m tests.store.dump_schema`"


def test_the_newest_dump_is_of_the_newest_schema() -> None:
    assert DUMPS[-1].read_text(encoding="utf-8") == newest_dump()


@pytest.mark.parametrize("file", DUMPS, ids=lambda file: file.stem)
def test_a_file_of_any_schema_keeps_every_row_when_opened(file: Path, path: Path) -> None:
    load(file, path)
    before = tables(path)
    with closing(open_store(path)) as store:
        assert [migration.name for migration in SCHEMA.applied(store.db)] == names()
        found_whole(store)
        if "jobs" in before:
            assert [job.state for job in list_jobs(store)] == ["running", "failed"]
            assert get_job(store, 1).failure is not None
    after = tables(path)
    for table, rows in before.items():
        assert len(rows) == len(after[table])
        for old, new in zip(rows, after[table], strict=True):
            assert old == {column: new[column] for column in old}


def found_whole(store: Store) -> None:
    part, done = list_runs(store)
    assert (done.kind, done.finished, done.seed, done.seconds) == ("decode", True, None, 0.5)
    assert read_array(store, done.key, 0, "ids").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (part.finished, part.stored_units, part.seed) == (False, 2, -7)
    assert part.parameters == {"words": ["Paris", "🗼"]}
    unit = read_unit(store, part.key, 0)
    assert (unit.name, unit.payload) == ("a 'quoted' name", {"text": "nul \0 é"})
    odd = np.array([np.nan, -0.0, 1e-45], np.float32)
    assert read_array(store, part.key, 0, "x").tobytes() == odd.tobytes()
    assert read_array(store, part.key, 0, "none").shape == (0, 3)
    assert read_array(store, part.key, 0, "one").item() is True
    assert [model.facts for model in list_models(store)] == [{"layers": 2}]
    assert list(FileHashes(store)) == [("/models/a.safetensors", 10, 1_700_000_000_000_000_000, 2**64 - 1)]
    assert [found.title for found in list_findings(store, search="neur")] == ["A capital neuron"]
    assert len(list_findings(store, search="France")) == 2
    assert list_findings(store)[0].evidence == {"prompt": "The capital of France is", "seed": 2**63}


@pytest.mark.parametrize("file", DUMPS, ids=lambda file: file.stem)
def test_an_upgrade_that_fails_half_way_changes_nothing(file: Path, path: Path) -> None:
    def fails(db: Database) -> None:
        db.execute("CREATE TABLE half (a)")
        db.execute("ALTER TABLE runs ADD COLUMN half TEXT")
        db.execute("UPDATE runs SET kind = 'half'")
        db.execute("DELETE FROM findings")
        raise RuntimeError("power cut")

    load(file, path)
    before = dumped(path)
    schema = Migrations("headlamp")
    for migration in SCHEMA.pending(Database(memory=True)):
        schema(name=migration.name)(migration.fn)
    schema(name="9999_half")(fails)
    with pytest.raises(RuntimeError, match="power cut"):
        open_store(path, schema=schema)
    assert dumped(path) == before
