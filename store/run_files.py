"""Runs as a file that carries results from one machine to another."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, BinaryIO

from store.arrays import read_array
from store.blobs import Array, check_array, encode
from store.database import Store
from store.documents import checked_json, clean_text, now, typed, utc
from store.errors import BadImport, StoreFull, translated
from store.run_archive import (
    FORMAT,
    LIST,
    ArchiveReader,
    ArchiveWriter,
    arrays_member,
    malformed,
    units_member,
)
from store.runs import (
    NewUnit,
    Run,
    RunSpec,
    Unit,
    find_run,
    get_run,
    insert_run,
    put_units,
    read_unit,
    stored_units,
)

TOGETHER, TOGETHER_BYTES = 64, 16 << 20
"""How many units, or bytes of arrays, are stored in one transaction: others who write wait no longer."""


@dataclass(frozen=True)
class ExportedRuns:
    """How many runs and units were written, and the bytes they take."""

    runs: int
    units: int
    bytes: int


@dataclass(frozen=True)
class ImportedRuns:
    """Keys of the runs that were new, that gained units, and that changed nothing; units: how many came."""

    added: tuple[str, ...]
    completed: tuple[str, ...]
    unchanged: tuple[str, ...]
    units: int


@dataclass(frozen=True)
class _Sent:
    """A run in a file, checked. units: how many of its units are there; bytes: what their arrays take."""

    spec: RunSpec
    versions: dict[str, Any]
    created_at: str
    finished_at: str | None
    seconds: float
    units: int
    bytes: int


def export_runs(store: Store, keys: Sequence[str], out: BinaryIO) -> ExportedRuns:
    """Write the runs with these keys, as far as they are stored, to `out`; one unit is in memory at a time.

    The file is a zip anybody can open (store/run_archive.py). RunNotFound, before anything is written.
    """
    runs = [get_run(store, key) for key in dict.fromkeys(keys)]
    start, units = out.tell(), 0
    archive = ArchiveWriter(out)
    for run in runs:
        stored = sorted(stored_units(store, run.key))
        there = (vars(read_unit(store, run.key, idx)) for idx in stored)
        archive.write_json_list(units_member(run.key), there)
        for idx in stored:
            unit = read_unit(store, run.key, idx)
            if unit.arrays:
                arrays = {name: read_array(store, run.key, idx, name) for name in unit.arrays}
                archive.write_arrays(arrays_member(run.key, idx), arrays)
        units += len(stored)
    sent = {"runs": [_facts(run) for run in runs], "sha256": dict(archive.sha256)}
    archive.write_json(LIST, {"headlamp_runs": FORMAT, "created": now()} | sent)
    archive.close()
    return ExportedRuns(len(runs), units, out.tell() - start)


def import_runs(store: Store, source: BinaryIO, *, memory: int) -> ImportedRuns:
    """Add the runs of a file by `export_runs`: new ones, and to others the units they miss.

    All of `source`, which can seek, is checked before anything is stored. Then units are stored a few at a
    time, so that others can write meanwhile; a run whose import was interrupted is unfinished, and
    importing the file again completes it. What is already there stays as it is.

    memory: free bytes of it, which reading any part of the file must fit.
    BadImport: not such a file, of a newer version, damaged, too large when unpacked, or a run is not what
    its key says. StoreFull: the disk has no room for what is in it.
    """
    with malformed():
        archive = ArchiveReader(source, memory=memory)
        listed = archive.read_json(LIST, None)
        digests = _digests(listed)
        sent = [_checked_run(archive, entry, digests) for entry in typed(listed, "runs", list)]
        _check_unique([run.spec.key for run in sent], "the list of runs")
    _check_room(store, sent)
    gained = {run.spec.key: _store_run(store, archive, run, digests) for run in sent}
    return ImportedRuns(
        tuple(key for key, (new, _) in gained.items() if new),
        tuple(key for key, (new, units) in gained.items() if units and not new),
        tuple(key for key, (new, units) in gained.items() if not (units or new)),
        sum(units for _, units in gained.values()),
    )


def _facts(run: Run) -> dict[str, Any]:
    """All about a run but what its units tell."""
    return {name: value for name, value in vars(run).items() if name not in ("stored_units", "bytes")}


def _digests(listed: object) -> dict[str, str]:
    if not isinstance(listed, dict) or "headlamp_runs" not in listed:
        raise BadImport(f"no `headlamp_runs` in its {LIST}; choose a file made by exporting runs")
    version = typed(listed, "headlamp_runs", int)
    if version > FORMAT:
        raise BadImport(f"runs of version {version}; this Headlamp reads up to {FORMAT}: update Headlamp")
    if version < 1:
        raise ValueError(f"`headlamp_runs` is {version}; an export's is {FORMAT}")
    digests: dict[str, str] = typed(listed, "sha256", dict)
    for name in digests:
        typed(digests, name, str)
    return digests


def _checked_run(archive: ArchiveReader, entry: Any, digests: dict[str, str]) -> _Sent:
    texts = {field.name for field in fields(RunSpec)} - {"parameters", "seed", "units"}
    spec = RunSpec(
        **{name: _text(entry, name) for name in texts},
        parameters=typed(entry, "parameters", dict),
        seed=typed(entry, "seed", int, type(None)),
        units=typed(entry, "units", int),
    )
    if entry["key"] != spec.key:
        raise ValueError(f"run {entry['key']!r:.40} says of itself what has the key {spec.key}")
    numbers, size = list[int](), 0
    for unit in _units(archive, spec, digests):
        numbers.append(unit.idx)
        for name, array in _arrays(archive, spec.key, unit, digests).items():
            check_array(array, name)
            size += array.nbytes
    _check_unique(numbers, f"run {spec.key}")
    finished_at = typed(entry, "finished_at", str, type(None))
    return _Sent(
        spec,
        checked_json(typed(entry, "versions", dict), "versions"),
        utc(typed(entry, "created_at", str)),
        None if finished_at is None else utc(finished_at),
        _seconds(entry),
        len(numbers),
        size,
    )


def _units(archive: ArchiveReader, spec: RunSpec, digests: dict[str, str]) -> Iterator[Unit]:
    """The units of a run in a file, checked, one in memory at a time, without their arrays."""
    name = units_member(spec.key)
    for entry in archive.read_json_list(name, digests[name]):
        yield _checked_unit(entry, spec)


def _checked_unit(entry: Any, spec: RunSpec) -> Unit:
    idx = typed(entry, "idx", int)
    if idx not in range(spec.units):
        raise ValueError(f"unit {idx} of run {spec.key}; it has units 0 to {spec.units - 1}")
    arrays = typed(entry, "arrays", list)
    return Unit(
        idx,
        _text(entry, "name"),
        checked_json(entry["payload"], "payload"),
        _seconds(entry),
        utc(typed(entry, "created_at", str)),
        tuple(_text({"array": name}, "array") for name in arrays),
    )


def _check_room(store: Store, sent: Sequence[_Sent]) -> None:
    """Refuse, before anything is stored, what the disk has no room for. StoreFull."""
    with translated(store.path):
        free = shutil.disk_usage(store.path.parent).free
    needed = sum(run.bytes for run in sent if find_run(store, run.spec.key) is None)
    if needed > free:
        raise StoreFull(
            f"the new runs take {needed / 1e6:.0f} MB, and the disk of {store.path} has {free / 1e6:.0f} MB "
            "free; nothing was imported: delete runs, or free some space"
        )


def _check_unique(names: Sequence[object], where: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{where} holds something twice")


def _text(entry: Any, name: str) -> str:
    text: str = typed(entry, name, str)
    if clean_text(text) != text:
        raise ValueError(f"{name} holds half a character")
    return text


def _seconds(entry: Any) -> float:
    seconds = float(typed(entry, "seconds", int, float))
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{seconds} seconds")
    return seconds


def _arrays(archive: ArchiveReader, key: str, unit: Unit, digests: dict[str, str]) -> dict[str, Array]:
    if not unit.arrays:
        return {}
    name = arrays_member(key, unit.idx)
    arrays = archive.read_arrays(name, digests[name])
    if sorted(arrays) != sorted(unit.arrays):
        raise ValueError(f"{name} holds other arrays than the run's list of units says")
    return arrays


def _store_run(
    store: Store, archive: ArchiveReader, sent: _Sent, digests: dict[str, str]
) -> tuple[bool, int]:
    """Whether the run is new here, and how many units came."""
    key, came = sent.spec.key, 0
    with store.transaction() as db:
        new = find_run(store, key) is None
        insert_run(db, sent.spec, sent.versions, sent.created_at)
    there = stored_units(store, key)
    missing = (unit for unit in _units(archive, sent.spec, digests) if unit.idx not in there)
    while batch := _next_batch(archive, key, missing, digests):
        came += put_units(store, key, batch)
    if new:
        finished_at = sent.finished_at if sent.units == sent.spec.units else None
        with store.transaction() as db:
            db.execute(
                "UPDATE runs SET seconds = ?, finished_at = coalesce(?, finished_at) WHERE key = ?",
                (sent.seconds, finished_at, key),
            )
    return new, came


def _next_batch(
    archive: ArchiveReader, key: str, units: Iterator[Unit], digests: dict[str, str]
) -> list[NewUnit]:
    """The next units with their arrays, as many as are stored together; [] at the end."""
    batch, size = list[NewUnit](), 0
    with malformed():
        for unit in islice(units, TOGETHER):
            arrays = _arrays(archive, key, unit, digests)
            blobs = {name: encode(array, name) for name, array in arrays.items()}
            batch.append(NewUnit(unit.idx, unit.name, unit.payload, unit.seconds, unit.created_at, blobs))
            size += sum(len(blob.data) for blob in blobs.values())
            if size >= TOGETHER_BYTES:
                break
    return batch
