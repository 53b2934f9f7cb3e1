"""Runs as a file that carries results between machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, BinaryIO

from store.arrays import read_array
from store.blobs import Array, check_array, encode_blob
from store.database import Store
from store.documents import check_json, clean_text, now, read_typed, utc
from store.errors import BadImport, StoreFull, translate_errors
from store.row_decoding import MAX_SECONDS
from store.run_archive import (
    FORMAT,
    LIST,
    ArchiveReader,
    ArchiveWriter,
    arrays_member,
    reject_malformed,
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
    list_stored_units,
    put_units,
    read_unit,
)

TOGETHER, TOGETHER_BYTES = 64, 16 << 20
"""Units, or bytes of arrays, stored in one transaction, so that other writers do not wait long."""


@dataclass(frozen=True)
class ExportedRuns:
    """How many runs and units were written, and the bytes they take."""

    runs: int
    units: int
    bytes: int


@dataclass(frozen=True)
class ImportedRuns:
    """Keys of the runs that were new, that gained units, and that stayed unchanged; units: how many were
    added.
    """

    added: tuple[str, ...]
    completed: tuple[str, ...]
    unchanged: tuple[str, ...]
    units: int


@dataclass(frozen=True)
class _RunInFile:
    """A validated run of a file. units: how many of its units are present; bytes: their arrays' size."""

    spec: RunSpec
    versions: dict[str, Any]
    created_at: str
    finished_at: str | None
    seconds: float
    units: int
    bytes: int


def export_runs(store: Store, keys: Sequence[str], out: BinaryIO) -> ExportedRuns:
    """Write the stored parts of the runs with these keys to `out`; one unit is in memory at a time.

    The file is an ordinary zip (store/run_archive.py). RunNotFound, before anything is written.
    """
    runs = [get_run(store, key) for key in dict.fromkeys(keys)]
    start, units = out.tell(), 0
    archive = ArchiveWriter(out)
    for run in runs:
        stored = sorted(list_stored_units(store, run.key))
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
    """Add the runs of a file by `export_runs`: new ones, and to others their missing units.

    All of `source`, which can seek, is checked before anything is stored. Then units are stored a few at a
    time, so that others can write meanwhile; a run whose import was interrupted is unfinished, and
    importing the file again completes it. Existing units stay unchanged.

    memory: free memory in bytes, a limit for reading any part of the file.
    BadImport: not such a file, of a newer version, damaged, too large when unpacked, or a run that does not
    match its key. StoreFull: the disk has no room for what is in it.
    """
    with reject_malformed():
        archive = ArchiveReader(source, memory=memory)
        listed = archive.read_json(LIST, None)
        digests = _digests(listed)
        sent = [_check_run(archive, entry, digests) for entry in read_typed(listed, "runs", list)]
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
    """Everything about a run except what its units hold."""
    return {name: value for name, value in vars(run).items() if name not in ("stored_units", "bytes")}


def _digests(listed: object) -> dict[str, str]:
    if not isinstance(listed, dict) or "headlamp_runs" not in listed:
        raise BadImport(f"no `headlamp_runs` in its {LIST}; choose a file made by exporting runs")
    version = read_typed(listed, "headlamp_runs", int)
    if version > FORMAT:
        raise BadImport(f"runs of version {version}; this Headlamp reads up to {FORMAT}: update Headlamp")
    if version < 1:
        raise ValueError(f"`headlamp_runs` is {version}; an export's is {FORMAT}")
    digests: dict[str, str] = read_typed(listed, "sha256", dict)
    for name in digests:
        read_typed(digests, name, str)
    return digests


def _check_run(archive: ArchiveReader, entry: Any, digests: dict[str, str]) -> _RunInFile:
    texts = {field.name for field in fields(RunSpec)} - {"parameters", "seed", "units"}
    spec = RunSpec(
        **{name: _text(entry, name) for name in texts},
        parameters=read_typed(entry, "parameters", dict),
        seed=read_typed(entry, "seed", int, type(None)),
        units=read_typed(entry, "units", int),
    )
    if entry["key"] != spec.key:
        raise ValueError(f"run {entry['key']!r:.40} does not match its key, {spec.key}")
    numbers, size = list[int](), 0
    for unit in _units(archive, spec, digests):
        numbers.append(unit.idx)
        for name, array in _arrays(archive, spec.key, unit, digests).items():
            check_array(array, name)
            size += array.nbytes
    _check_unique(numbers, f"run {spec.key}")
    finished_at = read_typed(entry, "finished_at", str, type(None))
    return _RunInFile(
        spec,
        check_json(read_typed(entry, "versions", dict), "versions"),
        utc(read_typed(entry, "created_at", str)),
        None if finished_at is None else utc(finished_at),
        _seconds(entry),
        len(numbers),
        size,
    )


def _units(archive: ArchiveReader, spec: RunSpec, digests: dict[str, str]) -> Iterator[Unit]:
    """The validated units of a run in a file, one in memory at a time, without their arrays."""
    name = units_member(spec.key)
    for entry in archive.read_json_list(name, digests[name]):
        yield _check_unit(entry, spec)


def _check_unit(entry: Any, spec: RunSpec) -> Unit:
    idx = read_typed(entry, "idx", int)
    if idx not in range(spec.units):
        raise ValueError(f"unit {idx} of run {spec.key}; it has units 0 to {spec.units - 1}")
    arrays = read_typed(entry, "arrays", list)
    return Unit(
        idx,
        _text(entry, "name"),
        check_json(entry["payload"], "payload"),
        _seconds(entry),
        utc(read_typed(entry, "created_at", str)),
        tuple(_text({"array": name}, "array") for name in arrays),
    )


def _check_room(store: Store, sent: Sequence[_RunInFile]) -> None:
    """Refuse, before anything is stored, an import for which the disk is too full. StoreFull."""
    with translate_errors(store.path):
        free = shutil.disk_usage(store.path.parent).free
    needed = sum(run.bytes for run in sent if find_run(store, run.spec.key) is None)
    if needed > free:
        raise StoreFull(
            f"the new runs take {needed / 1e6:.0f} MB, and the disk of {store.path} has {free / 1e6:.0f} MB "
            "free; nothing was imported: delete runs, or free some space"
        )


def _check_unique(names: Sequence[object], where: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{where} has duplicates")


def _text(entry: Any, name: str) -> str:
    text: str = read_typed(entry, name, str)
    if clean_text(text) != text:
        raise ValueError(f"{name} contains a lone surrogate")
    return text


def _seconds(entry: Any) -> float:
    seconds = float(read_typed(entry, "seconds", int, float))
    if not 0 <= seconds <= MAX_SECONDS:
        raise ValueError(f"{seconds} seconds")
    return seconds


def _arrays(archive: ArchiveReader, key: str, unit: Unit, digests: dict[str, str]) -> dict[str, Array]:
    if not unit.arrays:
        return {}
    name = arrays_member(key, unit.idx)
    arrays = archive.read_arrays(name, digests[name])
    if sorted(arrays) != sorted(unit.arrays):
        raise ValueError(f"{name} does not hold the arrays listed for the run's units")
    return arrays


def _store_run(
    store: Store, archive: ArchiveReader, sent: _RunInFile, digests: dict[str, str]
) -> tuple[bool, int]:
    """Store a run; returns whether it is new here, and how many units were added."""
    key, came = sent.spec.key, 0
    with store.transaction() as db:
        new = find_run(store, key) is None
        insert_run(db, sent.spec, sent.versions, sent.created_at)
    there = list_stored_units(store, key)
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
    with reject_malformed():
        for unit in islice(units, TOGETHER):
            arrays = _arrays(archive, key, unit, digests)
            blobs = {name: encode_blob(array, name) for name, array in arrays.items()}
            batch.append(NewUnit(unit.idx, unit.name, unit.payload, unit.seconds, unit.created_at, blobs))
            size += sum(len(blob.data) for blob in blobs.values())
            if size >= TOGETHER_BYTES:
                break
    return batch
