"""A disk that is really full: what is stored can still be read and deleted, and the room is given back."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from store import RunSpec, Store, begin_run, delete_run, free_space, list_runs, open_store, put_unit
from store.reserve import RESERVE_BYTES, keep_reserve, release_reserve, reserve_of

MEGABYTES = 22
SMALL_DISK = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc"]
"""A name space in which anybody may mount a disk of memory, seen by nobody else, gone with the process."""


def run_on_a_small_disk(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program with a disk of MEGABYTES mounted at folder/disk, in the repository's root."""
    disk = folder / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={MEGABYTES}m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    return subprocess.run(
        [*SMALL_DISK, mount, "sh", disk, sys.executable, program],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("probe")
    try:
        done = run_on_a_small_disk(folder, "print('mounted')")
    except FileNotFoundError:
        pytest.skip("no `unshare` here, so no small disk can be mounted")
    if done.stdout != "mounted\n":
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")


PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np
from store import RunSpec, StoreFull, begin_run, delete_run, free_space, list_runs, open_store, put_unit
from store import read_array
folder = Path(sys.argv[1])
store = open_store(folder / "headlamp.db")
keys = []
for seed in range(2):
    spec = RunSpec("decode", "1", "f" * 64, "m", "float32", "cpu", {}, seed, 30)
    begin_run(store, spec, {})
    keys.append(spec.key)
for idx in range(60):
    put_unit(store, keys[idx % 2], idx // 2, name="", arrays={"x": np.random.rand(12_000)}, seconds=1)
REOPEN and store.close()
with open(folder / "rest", "wb", buffering=0) as rest:
    try:
        while True:
            rest.write(bytes(4096))
    except OSError as error:
        print(error.strerror)
REOPEN and open_store(store.path).close()
try:
    put_unit(store, keys[0], 0, name="", seconds=1)
    large = {"x": "x" * 20_000_000}
    begin_run(store, RunSpec("decode", "1", "f" * 64, "m", "float32", "cpu", large, 3, 1), {})
except StoreFull as error:
    print("full:", error)
before = os.statvfs(folder).f_bavail
delete_run(store, keys[1])
print("given back", free_space(store) // 1000, "kB")
print("free after", os.statvfs(folder).f_bavail * 4 // 1000, "MB")
print([run.key == keys[0] and run.finished for run in list_runs(store)])
print(len(read_array(store, keys[0], 29, "x")))
print((folder / "headlamp.db-reserve").exists())
"""


@pytest.mark.parametrize("reopen", [False, True], ids=["open", "opened again"])
def test_a_run_is_deleted_on_a_full_disk_and_its_room_given_back(
    small_disk: None, tmp_path: Path, reopen: bool
) -> None:
    done = run_on_a_small_disk(tmp_path, PROGRAM.replace("REOPEN", str(reopen)))
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0] == os.strerror(28)
    assert told[1].startswith("full: No room left")
    assert int(told[2].split()[2]) > 2000
    assert told[4:6] == ["[True]", "12000"]


def test_the_reserve_takes_its_room_and_is_private(store: Store) -> None:
    reserve = reserve_of(store.path)
    assert reserve.stat().st_size == RESERVE_BYTES
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    assert reserve.stat().st_mode & 0o777 == 0o600


def test_a_reserve_is_given_up_once_and_made_again(path: Path) -> None:
    path.parent.mkdir()
    assert not release_reserve(path)
    keep_reserve(path)
    keep_reserve(path)
    assert release_reserve(path)
    assert not release_reserve(path)


def test_a_disk_without_room_for_the_reserve_opens_without(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.reserve._take", none_left)
    with_none = open_store(path)
    assert list_runs(with_none) == []
    assert not reserve_of(path).exists()
    with_none.close()


def test_a_file_of_an_earlier_version_shrinks_by_a_copy_and_in_pieces_from_then_on(
    path: Path, make_spec: Callable[..., RunSpec]
) -> None:
    path.parent.mkdir()
    older = Store(path)
    path.touch()
    older.db.execute("CREATE TABLE early (x)")  # without auto_vacuum, as earlier versions made files
    older.db.execute("DROP TABLE early")
    assert older.rows("PRAGMA auto_vacuum")[0]["auto_vacuum"] == 0
    older.close()
    with_pieces = open_store(path)
    spec = make_spec()
    begin_run(with_pieces, spec, {})
    put_unit(with_pieces, spec.key, 0, name="", arrays={"x": np.zeros(100_000)}, seconds=1)
    delete_run(with_pieces, spec.key)
    assert free_space(with_pieces) > 500_000
    assert with_pieces.rows("PRAGMA auto_vacuum")[0]["auto_vacuum"] == 2
    with_pieces.close()
