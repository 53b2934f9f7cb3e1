"""Runs as files: they arrive as they were sent, once; whatever is false about a file is refused whole."""

import hashlib
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from store import (
    BadImport,
    ExportedRuns,
    ImportedRuns,
    RunNotFound,
    RunSpec,
    Store,
    StoreFull,
    UnstorableValue,
    begin_run,
    delete_run,
    export_runs,
    get_run,
    import_runs,
    list_runs,
    list_stored_units,
    open_store,
    put_unit,
    read_array,
    read_unit,
)
from store.blobs import DTYPES
from store.documents import check_json
from store.run_archive import objects
from store.runs import NewUnit, Run, Unit, put_units

LIST = "headlamp-runs.json"
MEMORY = 1 << 30
MakeSpec = Callable[..., RunSpec]
SOMEWHERE = st.integers(0, 1 << 20)

ODD = {f"{dtype} {shape}": np.ones(shape, dtype) for dtype in DTYPES for shape in ((), (0, 3), (2, 3))}


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Store]:
    """The store of another machine."""
    with closing(open_store(tmp_path / "there.db")) as opened:
        yield opened


@pytest.fixture
def keys(store: Store, make_spec: MakeSpec) -> list[str]:
    """A finished run of two units, and one of which the third of three is stored."""
    done, part = make_spec(units=2, seed=None), make_spec(kind="find", units=3)
    begin_run(store, done, {"torch": "2.13.0"})
    put_unit(store, done.key, 1, name="ü", arrays={"x": np.array([np.nan, -0.0])}, seconds=0.1)
    put_unit(store, done.key, 0, name="odd", arrays=ODD, payload={"a": ["é\0", None, 2**63]}, seconds=0.2)
    begin_run(store, part, {})
    put_unit(store, part.key, 2, name="only a payload", payload=[1.5], seconds=3)
    return [done.key, part.key]


def exported(store: Store, *keys: str) -> bytes:
    out = io.BytesIO()
    export_runs(store, keys, out)
    return out.getvalue()


def imported(store: Store, content: bytes) -> ImportedRuns:
    return import_runs(store, io.BytesIO(content), memory=MEMORY)


def everything(store: Store, key: str) -> tuple[Run, list[Unit], dict[str, bytes]]:
    run = get_run(store, key)
    units = [read_unit(store, key, idx) for idx in sorted(list_stored_units(store, key))]
    named = [(unit.idx, name) for unit in units for name in unit.arrays]
    arrays = [(idx, name, read_array(store, key, idx, name)) for idx, name in named]
    told = {f"{idx} {name} {array.dtype} {array.shape}": array.tobytes() for idx, name, array in arrays}
    return run, units, told


def contents(store: Store) -> list[object]:
    return [store.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("runs", "units", "arrays")]


def changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The file with its members changed: JSON as values, arrays as bytes; digests are made anew."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        raw = {name: packed.read(name) for name in packed.namelist()}
    members: dict[str, Any] = {
        name: json.loads(part) if name.endswith("json") else part for name, part in raw.items()
    }
    change(members)
    parts = {
        name: json.dumps(part).encode() if name.endswith("json") else part for name, part in members.items()
    }
    for name in set(members[LIST].get("sha256", {})) & set(parts):
        members[LIST]["sha256"][name] = hashlib.sha256(parts[name]).hexdigest()
    parts[LIST] = json.dumps(members[LIST]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, part in parts.items():
            packed.writestr(name, part)
    return out.getvalue()


def test_runs_arrive_as_they_were_sent(store: Store, there: Store, keys: list[str]) -> None:
    out = io.BytesIO(b"before")
    out.seek(6)
    assert export_runs(store, [*keys, keys[0]], out) == ExportedRuns(2, 3, len(out.getvalue()) - 6)
    assert imported(there, out.getvalue()[6:]) == ImportedRuns(tuple(keys), (), (), 3)
    for key in keys:
        assert everything(there, key) == everything(store, key)
    assert get_run(there, keys[0]).finished
    assert not get_run(there, keys[1]).finished


def test_anybody_can_open_the_file(store: Store, keys: list[str]) -> None:
    with zipfile.ZipFile(io.BytesIO(exported(store, *keys))) as packed:
        assert packed.testzip() is None
        done, part = keys
        arrays = [f"{done}/0000.safetensors", f"{done}/0001.safetensors"]
        assert sorted(packed.namelist()) == sorted(
            [LIST, f"{done}/units.json", f"{part}/units.json", *arrays]
        )
        listed = json.loads(packed.read(LIST))
        assert listed["headlamp_runs"] == 1
        assert listed["runs"][0]["versions"] == {"torch": "2.13.0"}
        assert set(load(packed.read(arrays[0]))) == set(ODD)
        for name, digest in listed["sha256"].items():
            assert hashlib.sha256(packed.read(name)).hexdigest() == digest
        assert set(listed["sha256"]) == set(packed.namelist()) - {LIST}


def test_importing_twice_changes_nothing(store: Store, there: Store, keys: list[str]) -> None:
    content = exported(store, *keys)
    imported(there, content)
    before = contents(there)
    assert imported(there, content) == ImportedRuns((), (), tuple(keys), 0)
    assert imported(store, content) == ImportedRuns((), (), tuple(keys), 0)
    assert contents(there) == before


def test_a_run_that_is_partly_here_gains_the_missing_units(
    store: Store, there: Store, keys: list[str], make_spec: MakeSpec
) -> None:
    begin_run(there, make_spec(units=2, seed=None), {"torch": "1"})
    put_unit(there, keys[0], 0, name="mine", payload=1, seconds=5)
    assert imported(there, exported(store, *keys)) == ImportedRuns((keys[1],), (keys[0],), (), 2)
    run = get_run(there, keys[0])
    assert (run.finished, run.seconds, run.versions) == (True, 5.1, {"torch": "1"})
    assert read_unit(there, keys[0], 0).name == "mine"
    assert read_unit(there, keys[0], 1) == read_unit(store, keys[0], 1)


def test_an_unknown_run_is_not_exported_and_nothing_is_written(store: Store, keys: list[str]) -> None:
    out = io.BytesIO()
    with pytest.raises(RunNotFound):
        export_runs(store, [keys[0], "0" * 32], out)
    assert out.getvalue() == b""


def test_an_array_named_as_safetensors_reserves_is_not_exported(store: Store, keys: list[str]) -> None:
    put_unit(store, keys[1], 0, name="a", arrays={"__metadata__": np.ones(1)}, seconds=1)
    with pytest.raises(UnstorableValue, match="cannot hold an array named __metadata__"):
        exported(store, keys[1])


def test_unknown_fields_and_members_are_ignored(
    store: Store, there: Store, keys: list[str], tmp_path: Path
) -> None:
    def more(members: dict[str, Any]) -> None:
        members[LIST]["later"] = members[LIST]["runs"][0]["later"] = 1
        members[f"{keys[0]}/units.json"][0]["later"] = 1
        members["../escaped.safetensors"] = members["/escaped.safetensors"] = b"x"

    before = sorted(tmp_path.rglob("*"))
    assert imported(there, changed(exported(store, *keys), more)).added == tuple(keys)
    assert sorted(tmp_path.rglob("*")) == before


Change = Callable[[dict[str, Any], str], None]


def of_run(**changes: Any) -> Change:
    return lambda members, key: members[LIST]["runs"][0].update(changes)


def of_list(**changes: Any) -> Change:
    return lambda members, key: members[LIST].update(changes)


def of_unit(**changes: Any) -> Change:
    return lambda members, key: members[f"{key}/units.json"][1].update(changes)


def of_arrays(content: bytes) -> Change:
    return lambda members, key: members.update({f"{key}/0001.safetensors": content})


def without(*path: Any) -> Change:
    def change(members: dict[str, Any], key: str) -> None:
        *way, last = [step.replace("KEY", key) if isinstance(step, str) else step for step in path]
        value: Any = members
        for step in way:
            value = value[step]
        del value[last]

    return change


def twice(where: str) -> Change:
    def change(members: dict[str, Any], key: str) -> None:
        entries = members[LIST]["runs"] if where == LIST else members[f"{key}/units.json"]
        entries.append(entries[0])

    return change


RUN_FIELDS = sorted(set(RunSpec.__dataclass_fields__) | {"key", "versions", "seconds"})
FALSE: dict[str, Change] = {
    **{f"no {name}": without(LIST, "runs", 0, name) for name in [*RUN_FIELDS, "created_at", "finished_at"]},
    **{
        f"unit without {name}": without("KEY/units.json", 0, name)
        for name in ("idx", "name", "payload", "seconds", "created_at", "arrays")
    },
    **{f"no {name} in the list": without(LIST, name) for name in ("headlamp_runs", "runs", "sha256")},
    "no units": without("KEY/units.json"),
    "no digest": without(LIST, "sha256", "KEY/0001.safetensors"),
    "no arrays": without("KEY/0001.safetensors"),
    "forged key": of_run(key="0" * 32),
    "key that is a path": of_run(key="../../etc"),
    "other parameters under the key": of_run(parameters={"site": "down"}),
    "parameters are a list": of_run(parameters=[]),
    "more units under the key": of_run(units=3),
    "time without zone": of_run(created_at="2026-01-01T00:00:00"),
    "time that is none": of_run(finished_at="soon"),
    "negative seconds": of_run(seconds=-1),
    "endless seconds": of_run(seconds=float("inf")),
    "seed is true": of_run(seed=True),
    "a lone surrogate": of_run(model_name="\ud800"),
    "version 2": of_list(headlamp_runs=2),
    "version 0": of_list(headlamp_runs=0),
    "version is true": of_list(headlamp_runs=True),
    "runs is an object": of_list(runs={}),
    "digest is a number": lambda members, key: members[LIST]["sha256"].update({"more": 1}),
    "run twice": twice(LIST),
    "unit twice": twice("units"),
    "unit beyond the run": of_unit(idx=2, arrays=[]),
    "unit below 0": of_unit(idx=-1, arrays=[]),
    "unit is true": of_unit(idx=True),
    "unit of no number": of_unit(seconds=float("nan")),
    "payload of no number": of_unit(payload=float("nan")),
    "array that is not there": of_unit(arrays=["x", "y"]),
    "array that is not listed": of_unit(arrays=["y"]),
    "no safetensors": of_arrays(b"hello"),
    "complex numbers": of_arrays(save({"x": np.ones(2, np.complex64)})),
}


@pytest.mark.parametrize("name", FALSE)
def test_what_is_false_in_a_file_is_refused_and_nothing_changes(
    store: Store, there: Store, keys: list[str], name: str
) -> None:
    content = changed(exported(store, *keys), lambda members: FALSE[name](members, keys[0]))
    with pytest.raises(BadImport):
        imported(there, content)
    assert list_runs(there) == []


def test_a_file_of_a_newer_version_says_to_update(store: Store, there: Store, keys: list[str]) -> None:
    content = changed(exported(store, *keys), lambda members: members[LIST].update(headlamp_runs=2))
    with pytest.raises(BadImport, match=r"version 2; .* up to 1: update Headlamp"):
        imported(there, content)


def test_a_member_that_is_not_what_was_exported_is_refused(
    store: Store, there: Store, keys: list[str]
) -> None:
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(exported(store, *keys))) as packed,
        zipfile.ZipFile(out, "w") as forged,
    ):
        for name in packed.namelist():
            one = name == f"{keys[0]}/0001.safetensors"
            forged.writestr(name, save({"x": np.zeros(2)}) if one else packed.read(name))
    with pytest.raises(BadImport, match="SHA-256 differs"):
        imported(there, out.getvalue())
    assert list_runs(there) == []


@pytest.mark.parametrize(("memory", "member"), [(1000, "headlamp-runs.json"), (3000, "safetensors")])
def test_a_member_that_takes_more_memory_than_is_free_is_refused_unread(
    store: Store, there: Store, keys: list[str], make_spec: MakeSpec, memory: int, member: str
) -> None:
    large = make_spec(units=1)
    begin_run(store, large, {})
    put_unit(store, large.key, 0, name="large", arrays={"x": np.zeros(10_000)}, seconds=0)
    content = exported(store, large.key)
    if member == "safetensors":
        memory *= 40  # the list fits, the arrays do not
    with pytest.raises(BadImport, match=rf"{member} takes .* MB of memory to read.*export fewer runs"):
        import_runs(there, io.BytesIO(content), memory=memory)
    assert list_runs(there) == []


def test_a_unit_that_takes_more_memory_than_is_free_is_refused(
    store: Store, there: Store, make_spec: MakeSpec
) -> None:
    spec = make_spec(units=1)
    begin_run(store, spec, {})
    put_unit(store, spec.key, 0, name="large", payload=["x" * 1000] * 1000, seconds=0)
    with pytest.raises(BadImport, match="holds an object of over 25000 characters"):
        import_runs(there, io.BytesIO(exported(store, spec.key)), memory=1_000_000)
    assert import_runs(there, io.BytesIO(exported(store, spec.key)), memory=MEMORY).units == 1


def packed(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {LIST: b"[" + b"[],\n" * 12_000_000 + b"[]]"},
        {LIST: b"{}", "a/0000.safetensors": bytes(40 << 20)},
        {LIST: b"{}", **{f"a/{number}": bytes(4 << 20) for number in range(10)}},
    ],
    ids=["list", "array", "many"],
)
def test_a_small_file_that_unpacks_to_very_much_is_refused_unread(
    there: Store, members: dict[str, bytes]
) -> None:
    content = packed(members)
    assert len(content) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(BadImport, match=r"unpack to .* more than 64 times as many.*without compression"):
            imported(there, content)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_what_the_disk_has_no_room_for_is_refused_before_anything_is_stored(
    store: Store, there: Store, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = exported(store, *keys)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(StoreFull, match="MB free; nothing was imported"):
        imported(there, content)
    assert list_runs(there) == []


def test_memory_that_ends_all_the_same_is_told(
    store: Store, there: Store, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = exported(store, *keys)

    def none_left(data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr("store.run_archive.load", none_left)
    with pytest.raises(BadImport, match="MemoryError"):
        imported(there, content)


def test_bfloat16_is_told_as_such(store: Store, there: Store, keys: list[str]) -> None:
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    arrays = len(header).to_bytes(8, "little") + header + bytes(4)
    content = changed(exported(store, *keys), lambda members: of_arrays(arrays)(members, keys[0]))
    with pytest.raises(BadImport, match="holds an array of bfloat16; convert it to float32"):
        imported(there, content)


@pytest.mark.parametrize(("lie", "told"), [(-1, "BadZipFile"), (1, "bytes instead of")])
def test_a_size_that_is_not_the_declared_one_is_refused(
    store: Store, there: Store, keys: list[str], lie: int, told: str
) -> None:
    """A bomb is small in the zip's own list and large when unpacked."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(exported(store, *keys))) as packed,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as forged,
    ):
        for name in packed.namelist():
            forged.writestr(name, packed.read(name))
        forged.getinfo(LIST).file_size += lie
    with pytest.raises(BadImport, match=told):
        imported(there, out.getvalue())
    assert list_runs(there) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packings_are_refused(there: Store, method: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        packed.writestr(LIST, "{}")
    with pytest.raises(BadImport, match="packed by method"):
        imported(there, out.getvalue())


def test_a_run_that_fails_on_the_way_is_unfinished_and_completed_by_another_import(
    store: Store, there: Store, keys: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.run_files.TOGETHER", 1)
    when = "BEFORE INSERT ON units WHEN new.idx = 1 BEGIN SELECT RAISE(ABORT, 'fails'); END"
    there.db.execute(f"CREATE TRIGGER fails {when}")
    with pytest.raises(Exception, match="fails"):
        imported(there, exported(store, keys[0]))
    assert list_stored_units(there, keys[0]) == {0}
    assert not get_run(there, keys[0]).finished
    there.db.execute("DROP TRIGGER fails")
    assert imported(there, exported(store, keys[0])).completed == (keys[0],)
    assert get_run(there, keys[0]).finished
    assert everything(there, keys[0])[1:] == everything(store, keys[0])[1:]


def test_others_write_while_runs_come_in(store: Store, there: Store, make_spec: MakeSpec) -> None:
    """Between two transactions, that is; each holds a few units only."""
    spec = make_spec(units=200)
    begin_run(store, spec, {})
    with store.transaction():
        for idx in range(200):
            put_unit(store, spec.key, idx, name="", payload=idx, seconds=0)
    seen: list[int] = []
    there.db.conn.set_trace_callback(lambda sql: seen.append(1) if sql == "BEGIN IMMEDIATE" else None)
    imported(there, exported(store, spec.key))
    assert len(seen) >= 200 / 64
    assert list_stored_units(there, spec.key) == set(range(200))


def test_storing_a_unit_reads_no_other(store: Store, make_spec: MakeSpec) -> None:
    """So that the time a run takes to store grows with its units, not with their square."""
    spec = make_spec(units=3000)
    begin_run(store, spec, {})
    steps: dict[int, int] = {}

    def count_steps(idx: int) -> None:
        count = [0]
        store.db.conn.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 1)
        put_units(store, spec.key, [NewUnit(idx, "", None, 0, "2026-01-01T00:00:00+00:00", {})])
        store.db.conn.set_progress_handler(None, 0)
        steps[idx] = count[0]

    count_steps(0)
    put_units(store, spec.key, [NewUnit(i, "", None, 0, "2026", {}) for i in range(1, 2999)])
    count_steps(2999)
    assert steps[2999] < 2 * steps[0] + 3 * 3000  # counting the units of the run is one step of three each


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_bit_that_flipped_is_refused_or_makes_no_difference(
    store: Store, there: Store, keys: list[str], data: st.DataObject
) -> None:
    """Some bits of a zip mean nothing to what is in it, such as times of its members."""
    content = bytearray(exported(store, *keys))
    place = data.draw(SOMEWHERE) % len(content)
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        imported(there, bytes(content))
    except BadImport:
        assert list_runs(there) == []
    else:
        assert contents(there) == contents(store)
        for key in keys:
            delete_run(there, key)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_short_or_with_a_hole_is_refused(
    store: Store, there: Store, keys: list[str], data: st.DataObject
) -> None:
    content = exported(store, *keys)
    cut = data.draw(SOMEWHERE) % len(content)
    end = min(len(content), cut + data.draw(st.sampled_from([1, 300, 1 << 20])))
    with pytest.raises(BadImport):
        imported(there, content[:cut] + content[end:])
    assert list_runs(there) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_any_other_file_is_refused(there: Store, content: bytes) -> None:
    with pytest.raises(BadImport, match="not a valid file of runs"):
        imported(there, content)


def test_a_run_of_too_many_units_is_refused(store: Store, there: Store, keys: list[str]) -> None:
    content = changed(
        exported(store, *keys), lambda members: members[LIST]["runs"][0].update(units=1_000_001)
    )
    with pytest.raises(BadImport, match="1000001 units; a run has 1 to 1000000"):
        imported(there, content)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(
        st.dictionaries(
            st.text(max_size=3),
            st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5),
            max_size=3,
        ),
        max_size=5,
    ),
    piece=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
)
def test_a_list_is_read_object_by_object_however_it_is_cut(
    values: list[dict[str, Any]], piece: int, indent: int | None
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    if "\\ud" in json.dumps(values):
        return  # a lone surrogate is no UTF-8
    pieces = [text[start : start + piece] for start in range(0, len(text), piece)]
    assert list(objects("x", iter(pieces), 10_000)) == values


@pytest.mark.parametrize(
    "text", ["", "[", "{}", "[1]", "[{}", "[{},]", "[,{}]", "[{} {}]", "[{}]x", "[{}][", '[{"a": }]', "[[]]"]
)
def test_what_is_no_list_of_objects_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a list|ends before|Expecting"):
        list(objects("x", iter([text.encode()] if text else []), 10_000))


def test_spaces_between_objects_take_no_time_and_no_memory() -> None:
    pieces = [b"[{}", *[b" " * 100_000] * 200, b",{}]"]
    assert list(objects("x", iter(pieces), 1000)) == [{}, {}]


def test_long_keys_deep_in_a_document_are_checked_in_little_memory() -> None:
    value: object = 1
    for _ in range(90):
        value = {"k" * 100_000: value}
    tracemalloc.start()
    try:
        check_json(value, "payload")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
