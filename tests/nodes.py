"""What a path can name that is no regular file, made in a test's own folder.

The device nodes have numbers for local use, behind which no driver stands: opening one fails.
"""

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

_NO_DRIVER = 60, 0


def _device(kind: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        try:
            os.mknod(path, kind | 0o600, os.makedev(*_NO_DRIVER))
        except (AttributeError, PermissionError) as error:
            pytest.skip(f"device nodes cannot be made here: {error}")

    return make


def _socket(path: Path) -> None:
    """Bound by a short name: the whole path may be longer than an address can be."""
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


NODES: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a named pipe": os.mkfifo,
    "a socket": _socket,
    "a character device": _device(stat.S_IFCHR),
    "a block device": _device(stat.S_IFBLK),
}
"""How messages call each → what makes one at a path."""


def seen(folder: Path) -> dict[str, tuple[int, int]]:
    """Each name in a folder → its kind and number: the same where nothing in it was replaced."""
    return {path.name: (path.lstat().st_mode, path.lstat().st_ino) for path in folder.iterdir()}
