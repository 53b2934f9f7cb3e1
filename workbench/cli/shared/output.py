"""Output: one JSON document or readable text on stdout, everything else on stderr."""

from __future__ import annotations

import errno
import json
import math
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO

from analysis.errors import HeadlampError
from store import ReadableRows
from store.evidence import make_token_visible, make_visible
from workbench.neurons.rows import TokenScore


@dataclass(frozen=True)
class Output:
    """Destination of the answer. `stream` is stdout as the command found it; nothing else goes there."""

    stream: TextIO
    as_json: bool
    weights: dict[str, str] = field(default_factory=dict)
    """Model → how its weights are stored, of those that are dequantised while they are read."""

    def show(self, document: Mapping[str, Any], text: str) -> None:
        """Print the document with --json, else the text. Raises HeadlampError if stdout cannot be written.

        A document says of dequantised weights what they are from, as `weights`.
        """
        formats = [*self.weights.values()]
        if len(formats) == 1:
            document = {**document, "weights": formats[0]}
        elif formats:
            document = {**document, "weights": "; ".join(f"{k}: {v}" for k, v in self.weights.items())}
        shown = format_json(document) if self.as_json else text
        try:
            self.stream.write(_encodable(shown, self.stream) + "\n")
            self.stream.flush()
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            raise HeadlampError(
                f"the answer could not be printed: {error.strerror}; the results are stored, "
                "so free some space and run the same command again"
            ) from error


def format_json(document: Any) -> str:
    """One line of strict ASCII JSON; numbers that JSON cannot hold become null."""
    return json.dumps(drop_non_finite(document), allow_nan=False)


def drop_non_finite(value: Any) -> Any:
    """A copy in which NaN and infinities are None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: drop_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [drop_non_finite(item) for item in value]
    return value


def unreadable(listed: ReadableRows[Any]) -> list[dict[str, Any]]:
    """A document's entries for the rows a list leaves out; each is also named on stderr."""
    for row in listed.unreadable:
        say(row.why)
    return [vars(row) for row in listed.unreadable]


def say(message: str) -> None:
    """Print a line on stderr, with control characters made harmless; never fails."""
    if sys.stderr is None:
        return
    with suppress(OSError, ValueError):
        print(_encodable(make_visible(message), sys.stderr), file=sys.stderr, flush=True)


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; numbers to the right."""
    body = [[make_visible(cell).replace("\n", "⏎") for cell in row] for row in rows]
    lines = [list(columns), *body]
    widths = [max(_width(line[i]) for line in lines) for i in range(len(columns))]
    right = [bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(columns))]
    return "\n".join(
        "  ".join(_pad(*place) for place in zip(line, widths, right, strict=True)).rstrip() for line in lines
    )


def format_facts(known: Mapping[str, Any]) -> str:
    """One fact per line: name and value; unknown ones are left out."""
    rows = [(name, str(fact)) for name, fact in known.items() if fact not in (None, "")]
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {make_visible(fact)}" for name, fact in rows)


def format_tokens(scores: Sequence[TokenScore]) -> str:
    """Tokens with their probabilities on one line, spaces and newlines made visible."""
    return "  ".join(f"{make_token_visible(s.token)} {s.probability:.3f}" for s in scores)


def format_number(value: float | None) -> str:
    """Four significant digits; a dash for None."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def format_bytes(count: float) -> str:
    """Bytes in human-readable units."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def _encodable(text: str, stream: TextIO) -> str:
    """Escape what the stream's encoding cannot represent, as \\u2192."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        float(cell.removesuffix(" s"))
        return True
    return cell in ("–", "")


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Terminal columns that a text takes."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
