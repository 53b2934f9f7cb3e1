"""Which files are written, that they are written whole, and what becomes of what a killed process left."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from store import Unwritable, files
from store.files import replacing, target_of, write_whole
from tests.nodes import NODES, seen

NOBODY = 65534
STREAMS = {"stdin": "r", "stdout": "a", "stderr": "a"}


def write(path: Path, data: bytes = b"new") -> None:
    with replacing(path) as stream:
        stream.write(data)


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


@pytest.mark.parametrize("kind", NODES)
@pytest.mark.parametrize("linked", [False, True])
def test_only_a_regular_file_is_written(tmp_path: Path, kind: str, linked: bool) -> None:
    NODES[kind](tmp_path / "node")
    (tmp_path / "link").symlink_to("node")
    before = seen(tmp_path)
    with pytest.raises(Unwritable, match=rf"cannot be written: it is {kind}[;,].* name "):
        write(tmp_path / ("link" if linked else "node"))
    assert seen(tmp_path) == before


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("older")
    (tmp_path / "second").symlink_to("far/file")
    (tmp_path / "first").symlink_to(tmp_path / "second")
    write(tmp_path / "first")
    assert (tmp_path / "far" / "file").read_bytes() == b"new"
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target_of(tmp_path / "first") == tmp_path / "far" / "file"


def test_a_link_to_nothing_makes_the_file_where_there_is_a_folder_for_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    (tmp_path / "lost").symlink_to("none/file")
    with pytest.raises(
        Unwritable, match=r"lost \(a link to .*none/file\) .*there is no folder .*none; create"
    ):
        write(tmp_path / "lost")


def test_links_that_lead_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    with pytest.raises(Unwritable, match="form a cycle"):
        write(tmp_path / "one")
    with pytest.raises(Unwritable, match=r"cannot be written: .*; "):
        write(tmp_path / "one" / "file")


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "none" / "x", tmp_path / "file" / "x"):
        with pytest.raises(Unwritable, match=f"there is no folder {path.parent}; create it first"):
            write(path)
    with pytest.raises(Unwritable, match="name too long"):
        write(tmp_path / ("x" * 300))


@pytest.fixture
def shut() -> Iterator[Path]:
    """A folder without the right to write in it, for whoever runs the test."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        Path(name).chmod(0o555)
        if root:
            os.seteuid(NOBODY)
        yield Path(name)
        if root:
            os.seteuid(0)
        Path(name).chmod(0o700)


def test_a_folder_without_the_right_to_write_is_refused(shut: Path) -> None:
    with pytest.raises(Unwritable, match=f"no write permission in {shut}; name another file"):
        write(shut / "file")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files have no paths here")
def test_a_file_is_not_written_by_way_of_a_process_that_has_it_open(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("older")
    with (tmp_path / "file").open() as stream:
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{stream.fileno()}")
        (tmp_path / "folder").symlink_to("/proc/thread-self/fd")
        for path in (tmp_path / "link", tmp_path / "folder" / str(stream.fileno())):
            with pytest.raises(Unwritable, match="an open file of a process"):
                write(path)
    assert (tmp_path / "file").read_text() == "older"
    assert parts(tmp_path) == []


@pytest.mark.parametrize("stream", STREAMS)
def test_what_the_process_has_as_a_standard_stream_is_not_replaced_under_it(
    tmp_path: Path, repo_root: Path, stream: str
) -> None:
    (tmp_path / "file").write_text("older\n")
    (tmp_path / "link").symlink_to("file")
    script = (
        "import pathlib, store, sys\n"
        "for path in sys.argv[1:]:\n"
        "    try: store.files.target_of(pathlib.Path(path))\n"
        "    except store.Unwritable as error: pathlib.Path('told').open('a').write(f'{error}\\n')"
    )
    with (tmp_path / "file").open(STREAMS[stream]) as opened:
        command = [sys.executable, "-c", script, "file", "link", "another"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root), *sys.path])}
        streams: dict[str, Any] = {stream: opened}
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, **streams)
    told = (tmp_path / "told").read_text().splitlines()
    assert [line.split()[0] for line in told] == ["file", "link"]
    assert all(f"this process has it open as {stream}; name another file" in line for line in told)


def test_a_file_whose_name_is_as_long_as_a_name_can_be_is_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127):
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"new"


KILLED = """
import os, pathlib, signal, store
with store.files.replacing(pathlib.Path("file")) as stream:
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_gone_when_the_file_is_written_again(
    tmp_path: Path, repo_root: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo_root), *sys.path])}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(parts(tmp_path)) == 1
    write(tmp_path / "other")
    assert len(parts(tmp_path)) == 1
    write(tmp_path / "file")
    assert parts(tmp_path) == []
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_part_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as slow:
        slow.write(b"slow")
        (part,) = parts(tmp_path)
        write(tmp_path / "file", b"quick")
        assert parts(tmp_path) == [part]
        assert (tmp_path / "file").read_bytes() == b"quick"
    assert (tmp_path / "file").read_bytes() == b"slow"
    assert parts(tmp_path) == []


def test_only_what_has_the_name_of_a_part_of_this_file_is_removed(tmp_path: Path) -> None:
    kept = (".file.0123abcd", ".file.0123abcg.part", ".file.0123abcd9.part", ".files.0123abcd.part", "a.part")
    for name in (*kept, ".file.0123abcd.part"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / ".file.aaaaaaaa.part")
    (tmp_path / ".file.bbbbbbbb.part").symlink_to("a.part")
    write(tmp_path / "file")
    left = {*kept, ".file.aaaaaaaa.part", ".file.bbbbbbbb.part", "file"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_many_who_write_the_same_file_at_once_all_write_it(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def one(number: int) -> None:
        start.wait()
        for _ in range(25):
            write(tmp_path / "file", bytes([number]) * 1000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    data = (tmp_path / "file").read_bytes()
    assert data == data[:1] * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = files._lock
    swept: list[str] = []

    def late(descriptor: int) -> bool | None:
        if not swept:
            swept.extend(parts(tmp_path))
            (tmp_path / swept[0]).unlink()
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    write(tmp_path / "file")
    assert len(swept) == 1
    assert (tmp_path / "file").read_bytes() == b"new"


def test_without_locks_only_an_old_part_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    for name, age in ((".file.0000000a.part", 2.0), (".file.0000000b.part", 0.5)):
        (tmp_path / name).touch()
        then = (tmp_path / name).stat().st_mtime - age * files.ABANDONED_SECONDS
        os.utime(tmp_path / name, (then, then))
    write(tmp_path / "file")
    assert parts(tmp_path) == [".file.0000000b.part"]
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_folder_of_our_own_is_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "deep" / "down" / "file", b"all")
    assert (tmp_path / "deep" / "down" / "file").read_bytes() == b"all"


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    private = tmp_path / "private.csv"
    private.touch(mode=0o600)
    with replacing(private) as stream:
        stream.write(b"x")
    assert private.stat().st_mode & 0o777 == 0o600
