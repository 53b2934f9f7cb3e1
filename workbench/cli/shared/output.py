"""What is printed: one JSON document or a readable text on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TextIO

from analysis.errors import HeadlampError
from store import Listed
from store.evidence import visible, visible_token


@dataclass(frozen=True)
class Output:
    """Where the answer goes. `stream` is stdout as the command found it; nothing else is written there."""

    stream: TextIO
    as_json: bool

    def show(self, document: Mapping[str, Any], text: str) -> None:
        """Print the document with --json, else the text. Raises HeadlampError where stdout takes no more."""
        shown = as_json(document) if self.as_json else text
        try:
            self.stream.write(_encodable(shown, self.stream) + "\n")
            self.stream.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise HeadlampError(
                f"the answer could not be printed: {error.strerror}; what was computed is stored, "
                "so free some room and run the same command again"
            ) from error


def as_json(document: Any) -> str:
    """One line of strict ASCII JSON; numbers that JSON cannot hold become null."""
    return json.dumps(finite(document), allow_nan=False)


def finite(value: Any) -> Any:
    """A copy in which NaN and infinities are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def unreadable(listed: Listed[Any]) -> list[dict[str, Any]]:
    """What a document says of the rows a list leaves out; each is named on stderr, too."""
    for row in listed.unreadable:
        say(row.why)
    return [vars(row) for row in listed.unreadable]


def say(message: str) -> None:
    """A line for whoever watches, on stderr; it can neither move the cursor nor fail."""
    if sys.stderr is None:
        return
    with suppress(OSError, ValueError):
        print(_encodable(visible(message), sys.stderr), file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns side by side; those of numbers are aligned on the right."""
    body = [[visible(cell).replace("\n", "⏎") for cell in row] for row in rows]
    lines = [list(columns), *body]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(columns))]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(columns))]
    return "\n".join(
        "  ".join(_padded(*place) for place in zip(line, widths, right, strict=True)).rstrip()
        for line in lines
    )


def facts(known: Mapping[str, Any]) -> str:
    """One fact a line: its name, and what it is; facts that are not known are left out."""
    rows = [(name, str(fact)) for name, fact in known.items() if fact not in (None, "")]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {visible(fact)}" for name, fact in rows)


def tokens(scores: Sequence[Mapping[str, Any]]) -> str:
    """Tokens with their probabilities on one line, spaces and line ends made visible."""
    return "  ".join(f"{visible_token(s['token'])} {s['probability']:.3f}" for s in scores)


def number(value: float | None) -> str:
    """Four significant digits; a dash where there is no number."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def size(count: float) -> str:
    """Bytes, for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _encodable(text: str, stream: TextIO) -> str:
    """What the stream's encoding cannot carry is spelled out, as \\u2192."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell.removesuffix(" s"))
        return True
    return cell in ("–", "")


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns of a terminal that a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
