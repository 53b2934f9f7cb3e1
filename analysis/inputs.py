"""Files that people give to be read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def check_input(path: Path, *, seekable: bool = False) -> None:
    """Refuse a file that reading would never end on. Raises OSError, also where nothing is there.

    A pipe, as the shell makes one for <(command), is read to its end, and refused where `seekable` says that
    a file is not read from its beginning to its end. Nothing is opened.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a device, which need not end; give a file", str(path))
    if seekable and stat.S_ISFIFO(mode):
        raise OSError(errno.ESPIPE, "it is a pipe, and is not read in one go; give a file", str(path))
