"""Input files given by users."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def check_input(path: Path, *, seekable: bool = False) -> None:
    """Refuse an input file whose reading would never end. Raises OSError, also if it does not exist.

    A pipe, as the shell makes one for <(command), is read to its end, but refused where `seekable`:
    the file is then not read sequentially. Nothing is opened.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise OSError(errno.EINVAL, "it is a device, which may never end; give a file", str(path))
    if seekable and stat.S_ISFIFO(mode):
        raise OSError(errno.ESPIPE, "it is a pipe, which cannot be read out of order; give a file", str(path))
