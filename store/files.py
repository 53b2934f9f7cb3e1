"""Output files: which paths may be written, and writing them completely or not at all.

    with replacing(Path("table.csv")) as stream:      # .table.csv.1f0c92ab.part, then table.csv
        stream.write(b"…")

A part left by a killed process is removed when the same file is written again. The writer of a part holds
a lock on it, which ends with the process, so a part without a lock is abandoned.
"""

from __future__ import annotations

import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from store.errors import Unwritable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MOST_LINKS = 40
"""Symbolic links that are followed from one path, as many as Linux follows."""

ABANDONED_SECONDS = 86_400.0
"""Age at which a part counts as abandoned on a system without locks."""

_DESCRIPTORS = re.compile(r"/proc/[^/]+(/task/[^/]+)?/fd|/dev/fd")
"""Folders whose entries are the open files of a process."""

_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}

_ANOTHER = "name another file; the answer itself goes to stdout"

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
)


def target_of(path: Path) -> Path:
    """The file that writing to `path` creates or replaces: links are followed, and stay links.

    Raises Unwritable unless it is a regular file that is not a standard stream of this process, or a new
    file in an existing folder. Nothing is opened.
    """
    target = _followed(path)
    if why := _why_not(target):
        link = f" (a link to {target})" if os.path.islink(path) else ""
        raise Unwritable(f"{path}{link} cannot be written: {why}")
    return target


def writable_target(path: Path) -> Path:
    """`target_of(path)`, with write permission in its folder. Raises Unwritable."""
    target = target_of(path)
    if not may_write_in(target.parent):
        raise Unwritable(
            f"{path} cannot be written: there is no write permission in {target.parent}; name another file"
        )
    return target


def may_write_in(folder: Path) -> bool:
    """Whether this process may create files in a folder."""
    effective = os.access in os.supports_effective_ids
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=effective)


def kind_of(mode: int) -> str:
    """The type of a file that is not regular, from its mode, in words."""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "not a regular file")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A stream whose bytes become the file at `path` when the body ends; an error changes nothing.

    Raises Unwritable, OSError.
    """
    target = writable_target(path)
    _sweep(target)
    part, stream = _new_part(target)
    try:
        with stream:
            with suppress(OSError):  # a new file has no permissions to keep
                os.chmod(part, stat.S_IMODE(target.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            if fcntl is None:
                stream.close()  # Windows renames no open file
            os.replace(part, target)  # still locked, so that no one sweeps it now
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in a folder of our own, created if missing. Raises Unwritable, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(data)


def _followed(path: Path) -> Path:
    """Where the links from `path` end, whether or not the target exists. Raises Unwritable."""
    here = path
    for _ in range(MOST_LINKS):
        here = here.absolute()
        folder = os.path.realpath(here.parent)
        if _DESCRIPTORS.fullmatch(folder):
            raise Unwritable(
                f"{path} cannot be written: it leads to an open file of a process, in {folder}; {_ANOTHER}"
            )
        here = Path(folder, here.name)
        if not os.path.islink(here):
            return here
        here = here.parent / os.readlink(here)
    raise Unwritable(f"{path} cannot be written: its links form a cycle; remove them, or name another file")


def _why_not(target: Path) -> str:
    """Why a path that is not a link cannot be written, and what to do; empty if it can."""
    try:
        found = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "" if target.parent.is_dir() else f"there is no folder {target.parent}; create it first"
    except OSError as error:
        return f"{error.strerror}; name another file"
    if stat.S_ISDIR(found.st_mode):
        return "it is a folder; name a file in it"
    if not stat.S_ISREG(found.st_mode):
        return f"it is {kind_of(found.st_mode)}, but only regular files can be written; name one"
    stream = _stream_of(found)
    return f"this process has it open as {stream}; {_ANOTHER}" if stream else ""


def _stream_of(found: os.stat_result) -> str:
    """The standard stream of this process that is this file; empty if none."""
    for number, name in _STREAMS.items():
        with suppress(OSError):
            if os.path.samestat(os.fstat(number), found):
                return name
    return ""


def _stem(target: Path) -> str:
    """The beginning of a part's name; short enough for any file system."""
    return f".{os.fsencode(target.name)[:200].decode(errors='ignore')}."


def _new_part(target: Path) -> tuple[Path, BinaryIO]:
    """Create a new part beside a file, open and locked."""
    while True:
        part = target.with_name(f"{_stem(target)}{uuid.uuid4().hex[:8]}.part")
        stream = part.open("xb")
        if _lock(stream.fileno()) is not False and part.exists():
            return part, stream
        stream.close()  # between creation and lock, another process removed it


def _sweep(target: Path) -> None:
    """Remove what killed processes left of writing this file."""
    name = re.compile(re.escape(_stem(target)) + r"[0-9a-f]{8}\.part")
    with suppress(OSError):
        for part in target.parent.iterdir():
            if name.fullmatch(part.name):
                with suppress(OSError):
                    _remove_abandoned(part)


def _remove_abandoned(part: Path) -> None:
    """Remove a part that nobody writes. OSError if that is unknown."""
    found = part.lstat()
    if not stat.S_ISREG(found.st_mode):
        return
    if fcntl is None:
        if time.time() - found.st_mtime > ABANDONED_SECONDS:
            part.unlink()
        return
    with part.open("r+b") as stream:
        if _lock(stream.fileno()):
            part.unlink()


def _lock(descriptor: int) -> bool | None:
    """Lock an open file for this process; False if another has it, None if locks are unsupported."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
