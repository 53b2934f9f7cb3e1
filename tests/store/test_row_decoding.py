"""Rows that are not as they were written are refused by table and key; lists leave them out and name them."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import (
    DatabaseCorrupt,
    FileHashes,
    Finding,
    JobFailure,
    JobOrder,
    Owner,
    RunNotFound,
    RunSpec,
    Store,
    UnstorableValue,
    all_tags,
    ask_job,
    begin_run,
    delete_finding,
    delete_run,
    finish_job,
    forget_job,
    get_finding,
    get_job,
    get_run,
    keep_finding,
    list_findings,
    list_jobs,
    list_models,
    list_runs,
    list_stored_units,
    measure_storage,
    open_store,
    put_unit,
    read_array,
    read_arrays,
    read_unit,
    remember_model,
    repair_database,
    take_job,
)
from store.row_decoding import COLUMNS, decode_row

NOT_UTF8 = b"\xff\xfe"
FILE = ("/models/a.safetensors", 10, 1, 2)
ME = Owner("desk", 1, 1.0)

BAD: dict[str, dict[str, list[Any]]] = {
    "models": {
        "name": [b"bytes"],
        "revision": [NOT_UTF8],
        "facts": ["[]", "{", '{"a": NaN}', "[" * 100_000, "1" * 5000, b"{}"],
        "last_opened": ["soon", 5.5, "2026-01-01T00:00:00"],
    },
    "runs": {
        "kind": [NOT_UTF8],
        "parameters": ["null", "{]"],
        "versions": ["[1]"],
        "seed": ["a seed", 0.5],
        "units": [0, 2**62, "many", 1.5],
        "seconds": ["long", -1.0, float("inf"), b"1"],
        "created_at": ["yesterday", b""],
        "finished_at": ["soon"],
    },
    "findings": {
        "title": [b"bytes"],
        "note": [NOT_UTF8],
        "tags": ["{}", "[1]", "not JSON", b"[]"],
        "evidence": ["[]", "tower"],
        "updated_at": [""],
    },
    "jobs": {
        "title": [NOT_UTF8],
        "order": ["[]", "{"],
        "state": ["dreaming"],
        "done": [-1, "two", 0.5],
        "cancel_requested": [7, "no"],
        "failure": ["{}", '"full"', '{"name": "a", "message": "b", "cause": 3}'],
        "owner_started": ["then"],
        "beat_at": ["now"],
    },
    "units": {
        "name": [NOT_UTF8],
        "seconds": ["long"],
        "created_at": ["x"],
        "payload": ["{", "NaN", b"1", "[2]"],
        "payload_crc32": [-1, "x", 1],
    },
    "arrays": {
        "dtype": ["object", "float128", b"float64", NOT_UTF8],
        "shape": ["[4]", "[3, -1]", "3", "[1.5, 2]", "no", "[" * 100_000, b"[3]"]
        + [f"[0, {10**30}]", f"{[1] * 70}"],
        "data": ["24 characters, and so on", b"", b"x" * 23, 5],
        "crc32": [-1, "x", 1],
    },
}  # fmt: skip
CASES = [(table, column, value) for table, bad in BAD.items() for column in bad for value in bad[column]]


def ids(case: Any) -> str | None:
    return f"{case!r:.30}".replace("\\", "") if not isinstance(case, str) else case[:30]


@pytest.fixture
def key(store: Store, make_spec: Callable[..., RunSpec]) -> str:
    """Two of everything; the run whose key this is has one unit, with a payload and an array."""
    spec, other = make_spec(units=1), make_spec(units=1, seed=9)
    for made, name in ((spec, "bad"), (other, "good")):
        begin_run(store, made, {})
        put_unit(store, made.key, 0, name=name, arrays={"x": np.arange(3.0)}, payload=[1], seconds=1)
        remember_model(store, fingerprint=name, name=name, revision=None, path=None, facts={})
        order = JobOrder("find", name, name, {}, total=1, unit="blocks")
        job, _ = ask_job(store, order, ME)
        take_job(store, job.id, ME, replacing=ME)
        finish_job(store, job.id, ME, "failed", failure=JobFailure("a", "b", "c"))
        about = {"kind": "note", "model_name": "m", "model_fingerprint": "f"}
        keep_finding(store, title=name, tags=[name], evidence={"text": "tower"}, **about)
    return spec.key


def spoil(store: Store, table: str, column: str, value: Any) -> None:
    """Write a value past every check."""
    store.db.execute("PRAGMA ignore_check_constraints = ON")
    store.db.execute("PRAGMA foreign_keys = OFF")
    store.db.execute("DROP TRIGGER findings_edited")
    store.db.execute("DROP TRIGGER findings_frozen")
    text = "CAST(? AS TEXT)" if value == NOT_UTF8 else "?"
    store.db.execute(f'UPDATE {table} SET "{column}" = {text} WHERE rowid = 1', [value])
    store.db.execute("PRAGMA foreign_keys = ON")


def finding_id(store: Store) -> str:
    """The id of the finding that is spoiled."""
    return str(store.rows("SELECT id FROM findings ORDER BY seq")[0]["id"])


def read(store: Store, table: str, key: str) -> Any:
    """What pages and commands call for this table; its result of lists."""
    if table == "units":
        return read_unit(store, key, 0)
    if table == "arrays":
        return read_array(store, key, 0, "x"), read_arrays(store, key, "x")
    lists: dict[str, Callable[[Store], Any]] = {
        "models": list_models,
        "runs": list_runs,
        "findings": list_findings,
        "jobs": list_jobs,
    }
    return lists[table](store)


@pytest.mark.parametrize(("table", "column", "value"), CASES, ids=ids)
def test_a_row_that_is_not_as_written_is_named_and_hides_no_other(
    store: Store, key: str, table: str, column: str, value: Any
) -> None:
    good = read(store, table, key)
    spoil(store, table, column, value)
    if table in ("units", "arrays"):
        with pytest.raises(DatabaseCorrupt, match=rf"{key}.*(run it again|repair)"):
            read(store, table, key)
        return
    found = read(store, table, key)
    assert found == [row for row in good if row in found]
    assert (len(good), len(found)) == (2, 1)
    (bad,) = found.unreadable
    assert bad.table == table
    assert column in bad.why
    assert "python -m workbench" in bad.why


@pytest.mark.parametrize(
    ("table", "call"),
    [
        ("runs", lambda store, key: get_run(store, key)),
        ("findings", lambda store, key: get_finding(store, finding_id(store))),
        ("jobs", lambda store, key: get_job(store, 1)),
    ],
)
def test_one_that_is_asked_for_by_its_key_is_refused_with_the_way_out(
    store: Store, key: str, table: str, call: Callable[[Store, str], Any]
) -> None:
    column = {"runs": "parameters", "findings": "evidence", "jobs": "order"}[table]
    spoil(store, table, column, "{")
    with pytest.raises(DatabaseCorrupt, match=rf"^{table} row .*: {column} is not JSON .*workbench"):
        call(store, key)


def test_every_column_of_every_table_has_its_check(store: Store) -> None:
    aside = {"findings": {"seq"}}
    for table, checks in COLUMNS.items():
        there = {row["name"] for row in store.rows(f"PRAGMA table_info({table})")}
        assert set(checks) == there - aside.get(table, set())


def test_a_run_that_cannot_be_read_can_be_deleted(store: Store, key: str) -> None:
    spoil(store, "runs", "parameters", "{")
    delete_run(store, key)
    with pytest.raises(RunNotFound):
        get_run(store, key)
    assert store.rows("SELECT count(*) AS n FROM arrays")[0]["n"] == 1


def test_a_finding_that_cannot_be_read_can_be_deleted(store: Store, key: str) -> None:
    bad = finding_id(store)
    spoil(store, "findings", "evidence", "{")
    delete_finding(store, bad)
    assert [finding.title for finding in list_findings(store)] == ["good"]


@pytest.mark.parametrize("tags", ["not JSON", "{}", b"\xff", '["a", 1]', NOT_UTF8])
def test_bad_tags_hide_no_tag_and_no_search(store: Store, key: str, tags: Any) -> None:
    spoil(store, "findings", "tags", tags)
    assert all_tags(store)["good"] == 1
    assert [finding.title for finding in list_findings(store, tag="good")] == ["good"]
    assert [finding.title for finding in list_findings(store, search="tower")] == ["good"]


@pytest.mark.parametrize("value", ["many", b"\x01", -(2**63), 2**62])
def test_sizes_that_are_none_leave_the_page_of_runs_whole(store: Store, key: str, value: Any) -> None:
    spoil(store, "units", "bytes", value)
    assert {run.kind for run in list_runs(store)} == {"decode"}
    assert set(measure_storage(store).kind_bytes) == {"decode"}


def test_sizes_too_large_to_add_up_leave_the_page_of_runs_whole(
    store: Store, make_spec: Callable[..., RunSpec]
) -> None:
    spec = make_spec(units=2)
    begin_run(store, spec, {})
    for idx in range(2):
        put_unit(store, spec.key, idx, name="", seconds=0)
    store.db.execute("UPDATE units SET bytes = ?", [2**62])
    assert list_runs(store)[0].bytes == 2**63 - 1
    assert measure_storage(store).kind_bytes == {"decode": 2**63 - 1}


@pytest.mark.parametrize("value", ["short", b"ab" * 32, NOT_UTF8, "Z" * 64])
def test_a_bad_hash_of_a_file_counts_as_absent(store: Store, value: Any) -> None:
    hashes = FileHashes(store)
    hashes[FILE] = "ab" * 32
    spoil(store, "files", "sha256", value)
    assert FILE not in hashes
    assert (list(hashes), len(hashes)) == ([], 0)
    hashes[FILE] = "cd" * 32
    assert dict(hashes) == {FILE: "cd" * 32}


def test_a_flipped_byte_of_an_array_is_noticed(store: Store, key: str) -> None:
    data = bytearray(store.rows("SELECT data FROM arrays")[0]["data"])
    data[3] ^= 1
    spoil(store, "arrays", "data", bytes(data))
    with pytest.raises(
        DatabaseCorrupt, match=f"'x' of unit 0, run {key}: its checksum differs.*run it again"
    ):
        read_array(store, key, 0, "x")


def test_a_shape_of_as_many_numbers_is_noticed(store: Store, key: str) -> None:
    spoil(store, "arrays", "shape", "[3,1]")
    with pytest.raises(DatabaseCorrupt, match="checksum differs"):
        read_array(store, key, 0, "x")


def test_a_changed_payload_is_noticed(store: Store, key: str) -> None:
    spoil(store, "units", "payload", "[7]")
    with pytest.raises(DatabaseCorrupt, match="checksum of its payload differs"):
        read_unit(store, key, 0)
    spoiled_away = "UPDATE units SET payload = NULL WHERE rowid = 1"
    store.db.execute(spoiled_away)
    with pytest.raises(DatabaseCorrupt, match="checksum of its payload differs"):
        read_unit(store, key, 0)


def test_what_was_stored_before_checksums_is_read_without(store: Store, key: str) -> None:
    store.db.execute("UPDATE arrays SET crc32 = NULL")
    store.db.execute("UPDATE units SET payload_crc32 = NULL")
    assert read_array(store, key, 0, "x").tolist() == [0, 1, 2]
    assert read_unit(store, key, 0).payload == [1]


@pytest.mark.parametrize("shape", [f"[0, {10**30}]", f"[3{', 1' * 70}]"])
def test_a_shape_that_numpy_cannot_make_is_refused_without_a_checksum_too(
    store: Store, key: str, shape: str
) -> None:
    spoil(store, "arrays", "shape", shape)
    store.db.execute("UPDATE arrays SET crc32 = NULL, data = ?", [b"" if "0," in shape else bytes(24)])
    with pytest.raises(DatabaseCorrupt, match=r"is not a shape; .*run it again"):
        read_array(store, key, 0, "x")


@pytest.mark.parametrize("value", [None, 5, 0.5])
def test_a_text_of_another_type_is_refused(value: object) -> None:
    """Which a column without a declared type, of a file that was edited, may hold."""
    with pytest.raises(DatabaseCorrupt, match=r"runs row 'k': kind is (empty|a number), not text"):
        decode_row("runs", {"key": "k", "kind": value})


@pytest.mark.parametrize(("table", "column", "value"), CASES, ids=ids)
def test_repair_leaves_out_what_lists_leave_out(
    store: Store, key: str, table: str, column: str, value: Any
) -> None:
    spoil(store, table, column, value)
    store.close()
    repaired = repair_database(store.path)
    assert repaired.lost[table] == 1 or (table, column) == ("runs", "seconds")  # made anew from its units
    with closing(open_store(store.path)) as new:
        for name in ("models", "runs", "findings", "jobs"):
            found = read(new, name, key)
            assert (found.unreadable, bool(found)) == ((), True)


def test_a_finding_is_still_frozen(store: Store, keep: Callable[..., Finding]) -> None:
    keep()
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        store.db.execute("UPDATE findings SET evidence = '{}'")


def test_units_with_a_number_that_is_none_are_refused(store: Store, key: str) -> None:
    spoil(store, "units", "idx", "zero")
    with pytest.raises(DatabaseCorrupt, match=rf"units row '{key}' 'zero': idx is text"):
        list_stored_units(store, key)


def test_reading_a_database_writes_nothing_about_bad_rows(store: Store, key: str, path: Path) -> None:
    spoil(store, "runs", "versions", "{")
    before = store.rows("SELECT * FROM runs")
    list_runs(store)
    assert store.rows("SELECT * FROM runs") == before


@pytest.mark.parametrize("size", ["9" * 4000, "9" * 5000])
def test_a_shape_of_enormous_numbers_is_refused_and_repaired(store: Store, key: str, size: str) -> None:
    spoil(store, "arrays", "shape", f"[{size},{size}]")
    with pytest.raises(DatabaseCorrupt, match="is not a shape"):
        read_array(store, key, 0, "x")
    store.close()
    assert repair_database(store.path).lost["arrays"] == 1


def test_numbers_that_are_too_large_for_json_are_refused(store: Store, key: str) -> None:
    spoil(store, "units", "payload", "[1e999]")
    with pytest.raises(DatabaseCorrupt, match="holds 1e999, which is too large"):
        read_unit(store, key, 0)


def test_times_never_add_up_to_infinity(store: Store, make_spec: Callable[..., RunSpec]) -> None:
    spec = make_spec(units=3)
    begin_run(store, spec, {})
    for idx in range(3):
        put_unit(store, spec.key, idx, name="", seconds=1e12)
    assert get_run(store, spec.key).seconds == 1e12
    with pytest.raises(UnstorableValue, match="seconds"):
        put_unit(store, spec.key, 0, name="", seconds=1e13)


def test_a_job_without_a_state_is_named_among_those_that_are_not_active(store: Store, key: str) -> None:
    spoil(store, "jobs", "state", "")
    (bad,) = list_jobs(store, active=False).unreadable
    assert bad.key == "1"
    forget_job(store, 1)
    assert list_jobs(store).unreadable == ()


def test_a_link_is_the_database_it_leads_to(store: Store, key: str, tmp_path: Path) -> None:
    store.close()
    link = tmp_path / "link.db"
    link.symlink_to(store.path)
    with closing(open_store(link)) as linked:
        assert linked.path == store.path
    repair_database(link)
    assert link.is_symlink()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data", "link.db"]


def test_a_damaged_search_index_is_a_damaged_database(store: Store, key: str) -> None:
    store.db.execute("UPDATE findings_fts_config SET v = 99")
    store.close()
    with pytest.raises(DatabaseCorrupt, match="fts5"):
        list_findings(store, search="tower")
