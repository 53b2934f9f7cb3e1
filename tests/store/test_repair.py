"""Repair: what can be read is saved, what cannot is counted, and the damaged file is only moved."""

import os
import random
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import (
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseFromNewerVersion,
    JobOrder,
    Owner,
    RepairReport,
    RunSpec,
    StoreFull,
    ask_job,
    begin_run,
    get_run,
    keep_finding,
    list_findings,
    list_jobs,
    list_runs,
    list_stored_units,
    open_store,
    put_unit,
    read_array,
    remember_model,
    repair_database,
)
from store.salvage import TABLES
from tests.store.dump_schema import SCHEMAS

PAGE = 4096
UNITS = 12
EVIDENCE = b'{"text":"tower30'


def databases(path: Path) -> list[str]:
    """The files beside a database, but its reserve."""
    return sorted(name for name in os.listdir(path.parent) if name != f"{path.name}-reserve")


"""How a finding in the middle is stored."""


@pytest.fixture
def keys(path: Path, make_spec: Callable[..., RunSpec]) -> list[str]:
    """A store with 3 finished runs of 12 units, 60 findings, 40 models and 5 jobs; their keys."""
    specs = [make_spec(seed=seed, units=UNITS) for seed in range(3)]
    with closing(open_store(path)) as store:
        for spec in specs:
            begin_run(store, spec, {})
            for idx in range(UNITS):
                block = np.full(1200, 1000 * (spec.seed or 0) + idx, np.int64)
                put_unit(store, spec.key, idx, name=f"u{idx}", arrays={"x": block}, payload=[idx], seconds=1)
        about = {"kind": "generation", "model_name": "demo/base", "model_fingerprint": "f" * 64}
        for place in range(60):
            keep_finding(store, title=f"Finding {place}", evidence={"text": f"tower{place} " * 40}, **about)
        for place in range(40):
            facts = {"text": f"model{place} " * 40}
            remember_model(store, fingerprint=f"{place}", name="m", revision=None, path=None, facts=facts)
        for place in range(5):
            order = JobOrder("decode", "a job", f"k{place}", {}, total=0, unit="blocks")
            ask_job(store, order, Owner("desk", 1, 2.0))
    return [spec.key for spec in specs]


def page_with(path: Path, content: bytes) -> int:
    return path.read_bytes().index(content) // PAGE


def spoil(path: Path, *pages: int) -> bytes:
    """Overwrite whole pages with noise; the file as it is then."""
    content = bytearray(path.read_bytes())
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = b"\x99" * PAGE
    path.write_bytes(content)
    return bytes(content)


def sound(path: Path) -> None:
    with closing(open_store(path)) as store:
        assert store.rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert store.rows("PRAGMA foreign_key_check") == []
        assert all(run.finished == (run.stored_units == run.units) for run in list_runs(store))
        assert len(list_findings(store, search="tower")) == len(list_findings(store))


def rows_of(path: Path) -> dict[str, set[tuple[Any, ...]]]:
    with closing(sqlite3.connect(path)) as connection:
        return {table: set(connection.execute(f"SELECT * FROM {table}")) for table in TABLES}


def test_a_repaired_file_is_whole_but_for_what_could_not_be_read(path: Path, keys: list[str]) -> None:
    before = rows_of(path)
    noise = spoil(path, page_with(path, EVIDENCE))
    repaired = repair_database(path)
    after = rows_of(path)
    lost = len(before["findings"]) - len(after["findings"])
    assert 0 < lost < 20
    assert after["findings"] < before["findings"]
    assert {table: after[table] for table in TABLES if table != "findings"} == {
        table: before[table] for table in TABLES if table != "findings"
    }
    assert repaired.read == {table: len(rows) for table, rows in after.items()}
    assert repaired.lost == dict.fromkeys(TABLES, 0) | {"findings": lost}
    assert repaired.damaged.read_bytes() == noise
    assert databases(path) == ["headlamp.db", repaired.damaged.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    sound(path)


def test_a_unit_without_its_array_is_dropped_and_its_run_resumes(
    path: Path, keys: list[str], make_spec: Callable[..., RunSpec]
) -> None:
    block = np.full(1200, 1005, np.int64)
    spoil(path, page_with(path, block.tobytes()[:4000]))
    repaired = repair_database(path)
    assert (repaired.lost["units"], repaired.lost["arrays"], repaired.lost["runs"]) == (1, 1, 0)
    sound(path)
    with closing(open_store(path)) as store:
        run = get_run(store, keys[1])
        assert (run.finished, run.seconds, list_stored_units(store, run.key)) == (
            False,
            UNITS - 1,
            set(range(UNITS)) - {5},
        )
        put_unit(store, run.key, 5, name="u5", arrays={"x": block}, payload=[5], seconds=1)
        assert get_run(store, run.key).finished
        assert get_run(store, keys[0]).finished
        assert read_array(store, keys[1], 6, "x")[0] == 1006


def test_units_and_arrays_of_a_lost_run_go_with_it(path: Path, keys: list[str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM runs WHERE key = ?", (keys[0],))
        connection.execute("DELETE FROM units WHERE run_key = ? AND idx = 3", (keys[1],))
        connection.commit()
    repaired = repair_database(path)
    assert repaired.read["runs"] == 2
    assert (repaired.lost["units"], repaired.lost["arrays"]) == (UNITS, UNITS + 1)
    sound(path)


def told(table: str, rows: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """What a repair vouches for: a run's state follows its units, and bytes of an array have no checksum."""
    columns = {"runs": 1, "arrays": 5}.get(table)
    return {row[:columns] for row in rows}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_pages_are_spoiled_only_true_rows_are_saved(path: Path, keys: list[str], seed: int) -> None:
    before = rows_of(path)
    pages = random.Random(seed).sample(range(2, path.stat().st_size // PAGE), 6)
    noise = spoil(path, *pages)
    repaired = repair_database(path)
    after = rows_of(path)
    for table in TABLES:
        assert told(table, after[table]) <= told(table, before[table])
        known = repaired.lost[table]
        assert known is None or known == len(before[table]) - len(after[table])
    assert repaired.damaged.read_bytes() == noise
    sound(path)


def test_a_value_that_is_none_of_ours_is_lost_and_the_rest_is_kept(path: Path, keys: list[str]) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE models SET facts = '{' WHERE fingerprint = '1'")
        connection.execute("UPDATE models SET facts = x'ff' WHERE fingerprint = '2'")
        connection.execute("UPDATE models SET name = cast(x'ff' AS TEXT) WHERE fingerprint = '3'")
        connection.execute("UPDATE arrays SET shape = '[7]' WHERE unit_idx = 2")
        connection.commit()
    repaired = repair_database(path)
    assert (repaired.read["models"], repaired.lost["models"]) == (37, 3)
    assert (repaired.lost["arrays"], repaired.lost["units"]) == (3, 3)
    sound(path)


def test_a_file_of_an_older_schema_is_repaired_to_the_newest(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMAS / "0001_first_schema.sql").read_text(encoding="utf-8"))
    assert repair_database(path).read == dict(zip(TABLES, (1, 1, 2, 3, 4, 2, 0), strict=True))
    with closing(open_store(path)) as store:
        assert list_jobs(store) == []
        assert len(list_findings(store, search="neuron")) == 1


def test_what_the_log_holds_is_saved(path: Path, keys: list[str]) -> None:
    """The log of a process that died: copied while the process still has the file open."""
    died = path.with_name("died.db")
    with closing(open_store(path)) as store:
        store.db.execute("PRAGMA wal_autocheckpoint = 0")
        remember_model(store, fingerprint="late", name="m", revision=None, path=None, facts={})
        for suffix in ("", "-wal"):
            died.with_name(died.name + suffix).write_bytes(path.with_name(path.name + suffix).read_bytes())
    spoil(died, page_with(died, EVIDENCE))
    assert repair_database(died).read["models"] == 41
    assert [file for file in os.listdir(path.parent) if file.startswith("died.db-")] == []
    sound(died)


def test_a_file_that_is_open_elsewhere_is_not_repaired(path: Path, keys: list[str]) -> None:
    with closing(open_store(path)) as store:
        list_runs(store)
        with pytest.raises(DatabaseBusy, match=r"open in another process.*stop the app"):
            repair_database(path)
        assert [name for name in os.listdir(path.parent) if "repaired" in name or "damaged" in name] == []
    repair_database(path)


def nothing_changed(path: Path, error: type[Exception], match: str) -> None:
    before = path.read_bytes()
    with pytest.raises(error, match=match):
        repair_database(path)
    assert path.read_bytes() == before
    assert databases(path) == [path.name]


def test_a_file_of_which_nothing_can_be_read_stays(path: Path, keys: list[str]) -> None:
    spoil(path, *range(1, path.stat().st_size // PAGE))
    nothing_changed(path, DatabaseCorrupt, "nothing in .* can be read.* not changed")
    content = path.read_bytes()
    path.write_bytes(content[:16] + b"\xff" * (len(content) - 16))
    nothing_changed(path, DatabaseCorrupt, r"headlamp\.db")
    path.write_bytes(b"hello")
    nothing_changed(path, DatabaseCorrupt, "not an SQLite database")


def test_a_file_that_is_not_ours_to_repair_stays(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE bookmarks (url)")
    nothing_changed(path, DatabaseForeign, "bookmarks")
    path.unlink()
    open_store(path).close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("UPDATE _sqlite_migrations SET name = '9999_newer' WHERE name = '0004_anatomies'")
        newer.commit()
    nothing_changed(path, DatabaseFromNewerVersion, "9999_newer")


def test_a_repair_that_fails_on_the_way_leaves_everything(
    path: Path, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> RepairReport:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(sys.modules["store.repair"], "drop_orphans", full)
    nothing_changed(path, StoreFull, "No room left")
    monkeypatch.undo()

    def fails(self: Path, target: Path) -> Path:
        if ".repaired-" in self.name:
            raise PermissionError(13, "Permission denied")
        os.rename(self, target)
        return target

    monkeypatch.setattr(Path, "rename", fails)
    nothing_changed(path, Exception, "Permission denied")
