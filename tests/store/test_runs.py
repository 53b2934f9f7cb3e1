"""Runs: keys, units that arrive in any order and survive a kill, sizes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from store import (
    FileHashes,
    RunNotFound,
    RunSpec,
    Store,
    UnitMissing,
    UnstorableValue,
    begin_run,
    delete_run,
    find_run,
    free_space,
    get_run,
    list_models,
    list_runs,
    list_stored_units,
    measure_storage,
    open_store,
    put_unit,
    read_arrays,
    read_unit,
    remember_model,
)

MakeSpec = Callable[..., RunSpec]

DIFFERENT: list[dict[str, Any]] = [
    {"kind": "find"},
    {"method_version": "2"},
    {"model_fingerprint": "e" * 64},
    {"dtype": "float16"},
    {"device": "cuda"},
    {"parameters": {"site": "up", "top_k": 11}},
    {"parameters": {"site": "up", "top_k": "10"}},
    {"parameters": {"site": "up", "top_k": 10, "norm": None}},
    {"seed": 1},
    {"seed": None},
    {"units": 5},
]


@pytest.mark.parametrize("change", DIFFERENT, ids=str)
def test_the_key_changes_with_everything_that_changes_the_answer(
    make_spec: MakeSpec, change: dict[str, Any]
) -> None:
    assert make_spec(**change).key != make_spec().key


def test_the_key_ignores_the_models_name_and_the_order_of_parameters(make_spec: MakeSpec) -> None:
    reordered = make_spec(model_name="a copy", parameters={"top_k": 10, "site": "up"})
    assert reordered.key == make_spec().key
    assert len(reordered.key) == 32


def test_the_key_stays_the_same_from_version_to_version(make_spec: MakeSpec) -> None:
    assert make_spec().key == "39bbb5375ab7ec2a545756f230f3c5bd"


def test_a_spec_is_not_changed_by_what_it_was_made_from(make_spec: MakeSpec) -> None:
    parameters = {"layers": [1, 2]}
    spec = make_spec(parameters=parameters)
    key = spec.key
    parameters["layers"].append(3)
    assert spec.key == key


@pytest.mark.parametrize(
    "wrong", [float("nan"), float("inf"), {1}, object(), np.int64(3), {1: "a"}, b"bytes", 2**64, np.zeros(2)]
)
def test_a_parameter_that_is_not_json_is_refused_by_name(make_spec: MakeSpec, wrong: object) -> None:
    with pytest.raises(UnstorableValue, match=r"parameters\.layers\[0\]\.alpha"):
        make_spec(parameters={"layers": [{"alpha": wrong}]})


def test_a_parameter_nested_without_end_is_refused(make_spec: MakeSpec) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UnstorableValue, match="nested deeper than 100"):
        make_spec(parameters={"a": endless})


@pytest.mark.parametrize("change", [{"seed": 2**63}, {"units": 0}])
def test_a_seed_or_a_number_of_units_no_run_has_is_refused(make_spec: MakeSpec, change: Any) -> None:
    with pytest.raises(UnstorableValue):
        make_spec(**change)


def test_beginning_the_same_run_again_returns_the_stored_one(store: Store, make_spec: MakeSpec) -> None:
    first = begin_run(store, make_spec(), {"torch": "2.13.0"})
    assert first.parameters == {"site": "up", "top_k": 10}
    assert not first.finished
    assert begin_run(store, make_spec(model_name="a copy"), {"torch": "9"}) == first
    assert find_run(store, "0" * 32) is None


def test_a_unit_comes_back_as_it_was_stored(store: Store, make_spec: MakeSpec) -> None:
    key = begin_run(store, make_spec(), {}).key
    payload: dict[str, Any] = {"tokens": [" Paris", "\ud83d", "\0"], "loss": 0.1}
    arrays = {"ids": np.arange(3), "values": np.ones(2)}
    assert put_unit(store, key, 2, name="block 2", arrays=arrays, payload=payload, seconds=1.5)
    unit = read_unit(store, key, 2)
    assert (unit.idx, unit.name, unit.payload, unit.seconds) == (2, "block 2", payload, 1.5)
    assert unit.arrays == ("ids", "values")


def test_a_unit_stored_twice_stays_as_it_was_first(store: Store, make_spec: MakeSpec) -> None:
    key = begin_run(store, make_spec(), {}).key
    assert put_unit(store, key, 0, name="first", payload=1, seconds=1)
    before = get_run(store, key)
    assert not put_unit(store, key, 0, name="second", payload=2, seconds=1)
    assert read_unit(store, key, 0).payload == 1
    assert get_run(store, key) == before


def test_a_killed_run_resumes_at_the_units_that_are_missing(store: Store, make_spec: MakeSpec) -> None:
    spec = make_spec()
    begin_run(store, spec, {})
    for idx in (3, 0):
        put_unit(store, spec.key, idx, name=f"{idx}", arrays={"x": np.array([idx])}, seconds=1)
    store.close()
    again = open_store(store.path)
    run = begin_run(again, spec, {})
    assert (run.finished, run.stored_units, run.seconds) == (False, 2, 2)
    with pytest.raises(UnitMissing, match=r"lacks units 1-2 \(2 of 4 stored\); run it again"):
        read_arrays(again, spec.key, "x")
    for idx in set(range(run.units)) - list_stored_units(again, spec.key):
        put_unit(again, spec.key, idx, name=f"{idx}", arrays={"x": np.array([idx])}, seconds=1)
    assert get_run(again, spec.key).finished
    assert [array.item() for array in read_arrays(again, spec.key, "x")] == [0, 1, 2, 3]
    again.close()


def test_a_unit_that_fails_leaves_nothing_of_itself(store: Store, make_spec: MakeSpec) -> None:
    key = begin_run(store, make_spec(), {}).key
    store.db.execute("CREATE TRIGGER fails BEFORE INSERT ON arrays BEGIN SELECT RAISE(ABORT, 'fails'); END")
    with pytest.raises(Exception, match="fails"):
        put_unit(store, key, 0, name="a", arrays={"x": np.ones(3)}, seconds=1)
    assert list_stored_units(store, key) == set()
    assert get_run(store, key).seconds == 0


def test_asking_for_what_is_not_there_says_what_is(store: Store, make_spec: MakeSpec) -> None:
    with pytest.raises(RunNotFound, match="runs list"):
        get_run(store, "0" * 32)
    with pytest.raises(RunNotFound):
        read_arrays(store, "0" * 32, "x")
    with pytest.raises(RunNotFound):
        put_unit(store, "0" * 32, 0, name="a", seconds=1)
    key = begin_run(store, make_spec(units=1), {}).key
    with pytest.raises(UnitMissing, match="units 0 to 0"):
        put_unit(store, key, 1, name="a", seconds=1)
    with pytest.raises(UnitMissing, match="0 of 1"):
        read_unit(store, key, 0)
    put_unit(store, key, 0, name="a", arrays={"ids": np.ones(1)}, seconds=1)
    with pytest.raises(UnitMissing, match=r"no array 'x'; the run's arrays: ids"):
        read_arrays(store, key, "x")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(store: Store, make_spec: MakeSpec, seconds: float) -> None:
    key = begin_run(store, make_spec(), {}).key
    with pytest.raises(UnstorableValue, match="finite time"):
        put_unit(store, key, 0, name="a", seconds=seconds)


def test_runs_are_listed_newest_first_and_filtered(store: Store, make_spec: MakeSpec) -> None:
    changes = [{}, {"kind": "find"}, {"model_fingerprint": "e" * 64}]
    keys = [begin_run(store, make_spec(**change), {}).key for change in changes]
    assert [run.key for run in list_runs(store)] == keys[::-1]
    assert [run.key for run in list_runs(store, kind="find")] == [keys[1]]
    assert [run.key for run in list_runs(store, kind="decode", model_fingerprint="e" * 64)] == [keys[2]]
    assert [run.key for run in list_runs(store, limit=1)] == [keys[2]]


def test_deleting_a_run_takes_its_units_and_arrays_and_frees_their_room(
    store: Store, make_spec: MakeSpec
) -> None:
    kept = begin_run(store, make_spec(kind="find"), {}).key
    put_unit(store, kept, 0, name="a", payload="é", seconds=1)
    key = begin_run(store, make_spec(), {}).key
    put_unit(store, key, 0, name="a", arrays={"x": np.ones(100_000)}, payload="abc", seconds=1)
    assert get_run(store, key).bytes == 800_005
    before = measure_storage(store)
    assert before.kind_bytes == {"decode": 800_005, "find": 8}
    assert before.free_disk_bytes > 0
    delete_run(store, key)
    assert store.rows("SELECT * FROM arrays") == []
    assert measure_storage(store).reclaimable_bytes > 700_000
    assert free_space(store) > 700_000
    assert measure_storage(store).file_bytes < 400_000
    assert list_stored_units(store, kept) == {0}
    with pytest.raises(RunNotFound):
        delete_run(store, key)


def test_a_model_opened_again_keeps_its_first_time_and_takes_the_new_facts(store: Store) -> None:
    first = remember_model(
        store, fingerprint="f", name="a", revision=None, path="/m\udcff", facts={"layers": 2}
    )
    remember_model(store, fingerprint="e", name="b", revision="main", path=None, facts={})
    again = remember_model(store, fingerprint="f", name="c", revision=None, path=None, facts={"layers": 3})
    assert again.first_opened == first.first_opened
    assert (again.name, again.facts) == ("c", {"layers": 3})
    assert {model.fingerprint for model in list_models(store)} == {"f", "e"}


def test_a_file_hash_is_forgotten_when_anything_about_the_file_changes(store: Store) -> None:
    hashes = FileHashes(store)
    path, size, mtime, inode = file = ("/models/a.safetensors", 10, 1_700_000_000_000_000_000, 2**64 - 1)
    hashes[file] = "ab" * 32
    assert dict(hashes) == {file: "ab" * 32}
    for changed in [(path, 9, mtime, inode), (path, size, mtime + 1, inode), (path, size, mtime, 5)]:
        assert changed not in hashes
    newer = (path, 11, mtime, inode)
    hashes[newer] = "cd" * 32
    assert dict(hashes) == {newer: "cd" * 32}
    del hashes[newer]
    assert len(hashes) == 0
    with pytest.raises(KeyError):
        del hashes[newer]


def test_a_file_whose_name_is_not_utf8_is_remembered(store: Store) -> None:
    hashes = FileHashes(store)
    hashes["/a\udcff", 1, 2, 3] = "ab" * 32
    assert hashes["/a\udcff", 1, 2, 3] == "ab" * 32
    assert all(key in hashes for key in hashes)
