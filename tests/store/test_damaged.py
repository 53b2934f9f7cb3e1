"""A damaged file: refused, left byte by byte as it was, and copied beside itself once."""

import errno
import multiprocessing
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from store import DatabaseCorrupt, RunSpec, begin_run, open_store

ASIDE = ("-shm", "-reserve")
NAME = re.compile(r"headlamp\.db\.damaged-\d{8}-\d{6}(-\d+)?(-wal)?")


def files(folder: Path) -> dict[str, bytes]:
    """Everything there but the reserve, and shared memory and empty logs, which SQLite makes and drops."""
    there = {name: (folder / name).read_bytes() for name in os.listdir(folder) if not name.endswith(ASIDE)}
    return {name: content for name, content in there.items() if content or not name.endswith("-wal")}


def copies(path: Path) -> list[str]:
    return sorted(name for name in files(path.parent) if NAME.fullmatch(name))


@pytest.fixture
def damaged(path: Path) -> Path:
    """A database cut short."""
    open_store(path).close()
    path.write_bytes(path.read_bytes()[:-5000])
    return path


def refused(path: Path) -> str:
    with pytest.raises(DatabaseCorrupt) as error:
        open_store(path)
    return str(error.value)


def test_a_damaged_file_is_left_and_copied_and_both_are_named(damaged: Path) -> None:
    before = damaged.read_bytes()
    told = refused(damaged)
    (copy,) = copies(damaged)
    assert files(damaged.parent) == {"headlamp.db": before, copy: before}
    assert stat.S_IMODE((damaged.parent / copy).stat().st_mode) == 0o600
    assert str(damaged) in told
    assert str(damaged.parent / copy) in told
    assert "not changed" in told
    assert "workbench repair" in told


def test_a_damaged_file_is_copied_again_only_when_it_changed(damaged: Path) -> None:
    first = refused(damaged)
    assert refused(damaged) == first
    assert len(copies(damaged)) == 1
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert refused(damaged) != first
    assert len(copies(damaged)) == 2


def test_a_header_with_nothing_sound_behind_it_is_copied(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    told = refused(path)
    (copy,) = copies(path)
    assert copy in told


def _write_and_die(path: Path, spec: RunSpec) -> None:
    store = open_store(path)
    store.db.execute("PRAGMA wal_autocheckpoint = 0")
    begin_run(store, spec, {})
    os._exit(0)


@pytest.fixture
def damaged_with_log(path: Path, make_spec: Callable[..., RunSpec]) -> Path:
    """A database whose process died: its last run is in the log only, and the list of tables is damaged."""
    open_store(path).close()
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(path, make_spec()))
    process.start()
    process.join()
    content = bytearray(path.read_bytes())
    content[100:108] = b"\x00" * 8
    path.write_bytes(content)
    assert path.with_name("headlamp.db-wal").stat().st_size > 0
    return path


def test_the_log_of_a_damaged_file_is_left_and_copied_with_it(damaged_with_log: Path) -> None:
    path = damaged_with_log
    before = files(path.parent)
    assert sorted(before) == ["headlamp.db", "headlamp.db-wal"]
    refused(path)
    refused(path)
    copy, log = copies(path)
    assert log == f"{copy}-wal"
    named = {copy: before["headlamp.db"], log: before["headlamp.db-wal"]}
    assert files(path.parent) == before | named


def test_a_copy_that_cannot_be_made_is_told_and_leaves_no_part(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_read: Any, write: Any, _length: int) -> None:
        write.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = damaged.read_bytes()
    monkeypatch.setattr(shutil, "copyfileobj", full)
    told = refused(damaged)
    assert "No copy of it could be made (No space left on device)" in told
    assert files(damaged.parent) == {"headlamp.db": before}
