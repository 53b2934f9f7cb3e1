"""Progress of a command, on stderr: a bar for a terminal, occasional lines for a log."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

BAR_SECONDS, LINE_SECONDS = 0.1, 10.0
"""Smallest interval between two redraws of the bar, and between two lines of a log."""
BAR_WIDTH = 24
_CLEAR = "\r\x1b[K"


class Bar:
    """A progress callback: call it with units done and total. It erases itself when all are done."""

    def __init__(
        self, label: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._stream, self._clock = label, stream or sys.stderr or io.StringIO(), clock
        self._terminal = self._stream.isatty()
        self._started = self._shown = clock()
        self._first: int | None = None
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Redraw the bar, or write a line, unless the last one is too recent."""
        if self._first is None or done < self._first:
            self._first, self._started = done, self._clock()
        if done >= total:
            self.close()
        elif self._clock() - self._shown >= (BAR_SECONDS if self._terminal else LINE_SECONDS):
            self._shown, self._drawn = self._clock(), True
            line = self._line(done, total)
            self._write(f"{_CLEAR}{line}" if self._terminal else f"{line}\n")

    def close(self) -> None:
        """Erase the bar, so that the next output begins on a clean line."""
        if self._drawn and self._terminal:
            self._write(_CLEAR)
        self._drawn, self._first = False, None

    def _line(self, done: int, total: int) -> str:
        full = BAR_WIDTH * done // max(total, 1)
        bar = f"[{'#' * full}{'-' * (BAR_WIDTH - full)}] " if self._terminal else ""
        seconds, made = self._clock() - self._started, done - (self._first or 0)
        if not made or seconds <= 0:
            return f"{self._label} {bar}{done}/{total}"
        left = format_seconds((total - done) * seconds / made)
        return f"{self._label} {bar}{done}/{total}  {made / seconds:.3g}/s  {left} left"

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()


def wipe_line(stream: TextIO | None) -> None:
    """Erase the line of a bar, so that a message can be written there."""
    with suppress(OSError, ValueError):
        if stream is not None and stream.isatty():
            stream.write(_CLEAR)


def format_seconds(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
