"""Opening: what is made, what is refused and left alone, and how threads share it."""

import multiprocessing
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from store import (
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseFromNewerVersion,
    DatabaseReadOnly,
    RunSpec,
    Store,
    StoreError,
    StoreFull,
    Unwritable,
    begin_run,
    default_path,
    get_run,
    list_findings,
    list_runs,
    list_stored_units,
    open_store,
    put_unit,
    read_array,
    repair_database,
)
from store.database import LOGS
from store.migrations import SCHEMA, anatomies, checksums, first_schema, jobs
from tests.nodes import NODES, seen

NOBODY = 65534


def pragma(store: Store, name: str) -> object:
    return store.rows(f"PRAGMA {name}")[0][name]


def test_default_path_is_the_named_file_else_one_in_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADLAMP_DB", "~/elsewhere.db")
    assert default_path() == Path.home() / "elsewhere.db"
    monkeypatch.setenv("HEADLAMP_DB", "")
    assert default_path().name == "headlamp.db"
    assert default_path().is_absolute()


def test_a_new_store_is_private_and_set_up_for_threads(store: Store) -> None:
    assert stat.S_IMODE(store.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert pragma(store, "journal_mode") == "wal"
    assert pragma(store, "foreign_keys") == 1
    assert pragma(store, "synchronous") == 1
    assert store.rows("PRAGMA busy_timeout")[0]["timeout"] == 10_000


def test_a_path_with_odd_characters_is_that_file(tmp_path: Path) -> None:
    odd = tmp_path / "a?mode=memory #1%20é.db"
    open_store(odd).close()
    assert odd.stat().st_size > 0


def test_what_was_stored_is_there_when_opened_again(path: Path, make_spec: Callable[..., RunSpec]) -> None:
    first = open_store(path)
    run = begin_run(first, make_spec(), {})
    first.close()
    second = open_store(path)
    assert get_run(second, run.key) == run
    second.close()


def test_a_closed_store_opens_again_when_used(store: Store) -> None:
    store.close()
    assert list_runs(store) == []


def test_a_thread_that_ends_closes_its_connection(store: Store) -> None:
    seen: list[sqlite3.Connection] = []
    thread = threading.Thread(target=lambda: seen.append(store.db.conn))
    thread.start()
    thread.join()
    assert seen[0] is not store.db.conn
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        seen[0].execute("SELECT 1")


def test_eight_threads_write_and_read_without_a_locked_database(
    store: Store, make_spec: Callable[..., RunSpec]
) -> None:
    spec = make_spec(units=160)
    begin_run(store, spec, {})

    def work(thread: int) -> None:
        for idx in range(thread, 160, 8):
            put_unit(store, spec.key, idx, name=f"{idx}", arrays={"x": np.full(500, idx)}, seconds=0.5)
            assert read_array(store, spec.key, idx, "x")[0] == idx
            assert idx in list_stored_units(store, spec.key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    run = get_run(store, spec.key)
    assert run.finished
    assert run.stored_units == 160
    assert run.seconds == 80


def _open_and_close(path: Path) -> None:
    open_store(path).close()


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_all_succeed(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_open_and_close, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_threads_that_open_a_new_store_at_once_all_succeed(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(lambda _: open_store(path), range(8)):
            opened.close()


def test_a_lock_held_too_long_is_told(store: Store) -> None:
    impatient = open_store(store.path, busy_seconds=0.05)
    with store.transaction(), pytest.raises(DatabaseBusy, match="try again"), impatient.transaction():
        pass
    impatient.close()


def test_a_transaction_that_fails_stores_nothing_and_the_next_one_works(
    store: Store, make_spec: Callable[..., RunSpec]
) -> None:
    def begin_and_fail() -> None:
        with store.transaction():
            begin_run(store, make_spec(), {})
            raise KeyError

    with pytest.raises(KeyError):
        begin_and_fail()
    assert list_runs(store) == []
    begin_run(store, make_spec(), {})
    assert len(list_runs(store)) == 1


def test_a_failed_migration_rolls_back_wholly(path: Path) -> None:
    def half(db: Database) -> None:
        db.execute("CREATE TABLE half (a)")
        db.execute("INSERT INTO findings_fts (rowid, title) VALUES (1, 'x')")
        raise RuntimeError("power cut")

    old = Migrations("headlamp")
    old(name="0001_first_schema")(first_schema)
    open_store(path, schema=old).close()
    schema = Migrations("headlamp")
    schema(name="0001_first_schema")(first_schema)
    schema(name="0002_half")(half)
    with pytest.raises(RuntimeError, match="power cut"):
        open_store(path, schema=schema)
    store = open_store(path, schema=old)
    assert "half" not in store.db.table_names()
    assert store.rows("SELECT * FROM findings_fts") == []
    assert [migration.name for migration in SCHEMA.applied(store.db)] == ["0001_first_schema"]
    store.close()


def test_a_new_migration_keeps_what_is_stored(path: Path, make_spec: Callable[..., RunSpec]) -> None:
    old = open_store(path)
    run = begin_run(old, make_spec(), {})
    old.close()
    schema = Migrations("headlamp")
    schema(name="0001_first_schema")(first_schema)
    schema(name="0002_jobs")(jobs)
    schema(name="0003_checksums")(checksums)
    schema(name="0004_anatomies")(anatomies)
    schema(name="9999_more")(lambda db: db.executescript("CREATE TABLE more (a)"))
    new = open_store(path, schema=schema)
    assert get_run(new, run.key) == run
    assert new.rows("SELECT * FROM more") == []
    new.close()
    with pytest.raises(DatabaseFromNewerVersion, match=r"schema 9999_more; .* up to 0\d+_\w+"):
        open_store(path)


@pytest.mark.parametrize("content", [b"hello", b"not a database " * 1000, b"SQLite format 3\n" * 1000])
def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.txt"
    file.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match=r"notes\.txt"):
        open_store(file)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == ["notes.txt"]


def test_a_database_cut_short_is_refused_and_unchanged(path: Path) -> None:
    open_store(path).close()
    cut = path.read_bytes()[:-5000]
    path.write_bytes(cut)
    with pytest.raises(DatabaseCorrupt, match="not changed"):
        open_store(path)
    assert path.read_bytes() == cut


def test_damage_inside_the_file_is_told_when_read(store: Store) -> None:
    store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096 * 2 :] = b"\x99" * (len(content) - 4096 * 2)
    store.path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt):
        list_findings(store, search="x")


def test_another_programs_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "places.sqlite"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE bookmarks (url)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(DatabaseForeign, match="bookmarks"):
        open_store(file)
    assert file.read_bytes() == before


def test_a_database_deleted_while_in_use_is_not_replaced_by_an_empty_one(store: Store) -> None:
    store.close()
    store.path.unlink()
    with pytest.raises(StoreError, match="gone"):
        list_runs(store)
    assert not store.path.exists()


@pytest.fixture
def shut_folder() -> Iterator[Path]:
    """A folder of a store; its rights count, because the tests that use it do not run as root."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_store(folder / "headlamp.db").close()
        folder.chmod(0o777)
        (folder / "headlamp.db").chmod(0o666)
        root = os.geteuid() == 0
        if root:
            os.seteuid(NOBODY)
        yield folder
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


def set_mode(path: Path, mode: int) -> None:
    user = os.geteuid()
    if os.getuid() == 0:
        os.seteuid(0)
    path.chmod(mode)
    os.seteuid(user)


def test_a_read_only_file_is_told(shut_folder: Path) -> None:
    set_mode(shut_folder / "headlamp.db", 0o444)
    with pytest.raises(DatabaseReadOnly, match="writable"):
        open_store(shut_folder / "headlamp.db")


def test_a_read_only_folder_is_told(shut_folder: Path) -> None:
    set_mode(shut_folder, 0o555)
    with pytest.raises(DatabaseReadOnly, match="HEADLAMP_DB"):
        open_store(shut_folder / "headlamp.db")
    with pytest.raises(DatabaseReadOnly):
        open_store(shut_folder / "new" / "headlamp.db")


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match="it is a folder; name a file in it"):
        open_store(tmp_path)


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_regular_file_is_refused_and_not_opened(tmp_path: Path, kind: str, linked: bool) -> None:
    NODES[kind](tmp_path / "node")
    (tmp_path / "link").symlink_to("node")
    path = tmp_path / ("link" if linked else "node")
    before = seen(tmp_path)
    for open_it in (open_store, repair_database):
        with pytest.raises(Unwritable, match=f"it is {kind}"):
            open_it(path)
    assert seen(tmp_path) == before


@pytest.mark.parametrize("log", LOGS)
@pytest.mark.parametrize("kind", [*NODES, "a link"])
def test_a_log_that_is_no_regular_file_is_refused_and_not_opened(tmp_path: Path, kind: str, log: str) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "link.db").symlink_to("real.db")
    for made in (False, True):
        if kind == "a link":
            (tmp_path / f"real.db{log}").symlink_to("notes.txt")
        else:
            NODES[kind](tmp_path / f"real.db{log}")
        before = seen(tmp_path)
        for path in (tmp_path / "real.db", tmp_path / "link.db"):
            for open_it in (open_store, repair_database):
                with pytest.raises(
                    Unwritable, match=rf"real\.db{log} is {kind}, which SQLite .* move it away"
                ):
                    open_it(path)
        assert seen(tmp_path) == before
        node = tmp_path / f"real.db{log}"
        node.rmdir() if kind == "a folder" else node.unlink()
        if not made:
            open_store(tmp_path / "real.db").close()
    assert (tmp_path / "notes.txt").read_text() == "notes"


def test_a_link_to_a_database_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link.db").symlink_to("far/real.db")
    open_store(tmp_path / "link.db").close()
    open_store(tmp_path / "link.db").close()
    assert (tmp_path / "link.db").is_symlink()
    assert (tmp_path / "far" / "real.db").read_bytes().startswith(b"SQLite format 3")


def test_links_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "lost.db").symlink_to("none/real.db")
    with pytest.raises(Unwritable, match=r"there is no folder .*none; create it first"):
        open_store(tmp_path / "lost.db")
    (tmp_path / "round.db").symlink_to("round.db")
    with pytest.raises(Unwritable, match="form a cycle"):
        open_store(tmp_path / "round.db")


def test_a_full_disk_is_told_and_earlier_units_are_intact(
    store: Store, make_spec: Callable[..., RunSpec]
) -> None:
    spec = make_spec()
    begin_run(store, spec, {})
    block = np.arange(50_000, dtype=np.float64)
    put_unit(store, spec.key, 0, name="block 0", arrays={"x": block}, seconds=1)
    used = pragma(store, "page_count")
    store.rows(f"PRAGMA max_page_count = {used}")
    with pytest.raises(StoreFull, match="is intact"):
        put_unit(store, spec.key, 1, name="block 1", arrays={"x": block}, seconds=1)
    assert list_stored_units(store, spec.key) == {0}
    assert (read_array(store, spec.key, 0, "x") == block).all()
    store.rows("PRAGMA max_page_count = 100000")
    assert put_unit(store, spec.key, 1, name="block 1", arrays={"x": block}, seconds=1)
