"""Decoding of rows: a corrupt value becomes DatabaseCorrupt, naming table and key.

SQLite checks neither types nor JSON nor UTF-8 of the values it returns, and a database may have been edited,
damaged, or written by a program with a fault. Nothing in this package uses a stored value unchecked.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from store.errors import DatabaseCorrupt

T = TypeVar("T")
Check = Callable[[Any], Any]
"""Maps a stored value to its meaning; ValueError says what is wrong with it."""

MAX_UNITS = 1_000_000
"""Largest number of units of a run."""

MAX_SECONDS = 1e12
"""The longest time that is stored: no sum of real ones reaches it."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row that a list leaves out: its table, its key as text, and why, with what to do."""

    table: str
    key: str
    why: str


class ReadableRows(list[T], Generic[T]):
    """The rows of a list that can be read; `unreadable` names those that cannot."""

    def __init__(self, rows: Iterable[T] = (), unreadable: Iterable[UnreadableRow] = ()) -> None:
        super().__init__(rows)
        self.unreadable = tuple(unreadable)


def decode_row(table: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row of `table`, checked, JSON columns as values; DatabaseCorrupt.

    Columns that the table does not have, such as counts added by a query, pass unchanged.
    """
    checks = COLUMNS[table]
    decoded = dict(row)
    for column in checks.keys() & row.keys():
        try:
            decoded[column] = checks[column](row[column])
        except (ValueError, RecursionError) as error:
            raise DatabaseCorrupt(
                f"{row_name(table, row)}: {column} {_reason(error)}; {_way_out(table, row)}"
            ) from error
    return decoded


def read_readable(
    table: str, rows: Iterable[Mapping[str, Any]], read: Callable[[Mapping[str, Any]], T]
) -> ReadableRows[T]:
    """The result of `read` for each row; rows for which it raises DatabaseCorrupt are named instead."""
    found, unreadable = list[T](), list[UnreadableRow]()
    for row in rows:
        try:
            found.append(read(row))
        except DatabaseCorrupt as error:
            unreadable.append(UnreadableRow(table, _key(table, row), str(error)))
    return ReadableRows(found, unreadable)


def row_name(table: str, row: Mapping[str, Any]) -> str:
    """How a message names a row: `runs row 'a1b2…'`."""
    return f"{table} row {_key(table, row)}"


def text_or_bytes(data: bytes) -> str | bytes:
    """A text column as SQLite gives it; bytes that are not UTF-8 stay bytes, which `decode_row` refuses."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _key(table: str, row: Mapping[str, Any]) -> str:
    return " ".join(f"{row[column]!r:.60}" for column in _KEYS[table] if column in row)


def _reason(error: Exception) -> str:
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _way_out(table: str, row: Mapping[str, Any]) -> str:
    key = row.get("key" if table == "runs" else "run_key")
    repair = "`python -m workbench repair` keeps everything else"
    if table in ("runs", "units", "arrays") and isinstance(key, str):
        return f"`python -m workbench runs delete {key}` and run it again; or {repair}"
    return f"{repair} and leaves it out"


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        raise ValueError("holds bytes that are not UTF-8 text")
    if not isinstance(value, str):
        raise ValueError(f"is {_shown(value)}, not text")
    return value


def _integer(low: int, high: int = 2**63 - 1) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int:
            raise ValueError(f"is {_shown(value)}, not a whole number")
        if not low <= value <= high:
            raise ValueError(f"is {value}, outside {low} to {high}")
        return value

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"is {_shown(value)}, not a number")
    if not 0 <= value <= MAX_SECONDS:
        raise ValueError(f"is {value}, not a number from 0 to {MAX_SECONDS:.0e}")
    return float(value)


def _moment(value: Any) -> str:
    text = _text(value)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"is {text!r:.40}, not a time") from None
    if moment.tzinfo is None:
        raise ValueError(f"is {text!r:.40}, a time without a zone")
    return text


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"is {_shown(value)}, not bytes")
    return value


def _flag(value: Any) -> bool:
    return bool(_integer(0, 1)(value))


def _one_of(*names: str) -> Check:
    def check(value: Any) -> str:
        if _text(value) not in names:
            raise ValueError(f"is {value!r:.40}, not one of {', '.join(names)}")
        return str(value)

    return check


def _digits(value: Any) -> int:
    if not re.fullmatch("-?[0-9]{1,40}", _text(value)):
        raise ValueError(f"is {value!r:.40}, not a number")
    return int(value)


def _sha256(value: Any) -> str:
    if not re.fullmatch("[0-9a-f]{64}", _text(value)):
        raise ValueError("is not a SHA-256")
    return str(value)


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _json(value: Any) -> Any:
    try:
        return json.loads(_text(value), parse_constant=_refused, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON ({error})") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"holds {text:.20}, which is too large a number")
    return number


def _refused(constant: str) -> None:
    raise ValueError(f"is not JSON ({constant} is not a JSON number)")


def _json_object(value: Any) -> dict[str, Any]:
    found = _json(value)
    if not isinstance(found, dict):
        raise ValueError(f"is a JSON {type(found).__name__}, not an object")
    return found


def _json_texts(value: Any) -> tuple[str, ...]:
    found = _json(value)
    if not (isinstance(found, list) and all(isinstance(text, str) for text in found)):
        raise ValueError("is not a JSON list of texts")
    return tuple(found)


def _failure(value: Any) -> dict[str, str]:
    found = _json_object(value)
    if found.keys() != {"name", "message", "cause"} or not all(isinstance(v, str) for v in found.values()):
        raise ValueError("does not hold the three texts of a failure: name, message and cause")
    return found


def _shown(value: Any) -> str:
    kinds = {bytes: "bytes", str: "text", float: "a number", int: "a number", type(None): "empty"}
    return kinds.get(type(value), type(value).__name__)


_OPTIONAL_TEXT, _OPTIONAL_MOMENT, _COUNT = _optional(_text), _optional(_moment), _integer(0)
_CHECKSUM = _optional(_integer(0, 2**32 - 1))

COLUMNS: Mapping[str, Mapping[str, Check]] = {
    "models": {
        **dict.fromkeys(("fingerprint", "name"), _text),
        **dict.fromkeys(("revision", "path"), _OPTIONAL_TEXT),
        **dict.fromkeys(("first_opened", "last_opened"), _moment),
        "facts": _json_object,
    },
    "files": {
        "path": _text,
        "size": _COUNT,
        "mtime_ns": _integer(-(2**63)),
        "inode": _digits,
        "sha256": _sha256,
    },
    "anatomies": {"key": _text, "document": _json_object},
    "runs": {
        **dict.fromkeys(("key", "kind", "method_version", "model_fingerprint"), _text),
        **dict.fromkeys(("model_name", "dtype", "device"), _text),
        **dict.fromkeys(("parameters", "versions"), _json_object),
        "seed": _optional(_integer(-(2**63))),
        "units": _integer(1, MAX_UNITS),
        "created_at": _moment,
        "finished_at": _OPTIONAL_MOMENT,
        "seconds": _number,
    },
    "units": {
        **dict.fromkeys(("run_key", "name"), _text),
        **dict.fromkeys(("idx", "bytes"), _COUNT),
        "seconds": _number,
        "created_at": _moment,
        "payload": _optional(_json),
        "payload_crc32": _CHECKSUM,
    },
    "arrays": {
        **dict.fromkeys(("run_key", "name", "dtype", "shape"), _text),
        "unit_idx": _COUNT,
        "data": _bytes,
        "crc32": _CHECKSUM,
    },
    "findings": {
        **dict.fromkeys(("id", "title", "note", "model_name", "model_fingerprint", "kind"), _text),
        **dict.fromkeys(("created_at", "updated_at"), _moment),
        "tags": _json_texts,
        "evidence": _json_object,
    },
    "jobs": {
        **dict.fromkeys(("key", "kind", "title", "unit", "owner_host"), _text),
        **dict.fromkeys(("id", "done", "total", "began_with", "owner_pid"), _COUNT),
        "order": _json_object,
        "run_key": _OPTIONAL_TEXT,
        "state": _one_of("queued", "running", "done", "failed", "cancelled"),
        "cancel_requested": _flag,
        "failure": _optional(_failure),
        "owner_started": _number,
        **dict.fromkeys(("created_at", "beat_at"), _moment),
        **dict.fromkeys(("started_at", "finished_at"), _OPTIONAL_MOMENT),
    },
}  # fmt: skip
"""The contents of each column of each table."""

_KEYS = {
    "models": ("fingerprint",),
    "files": ("path",),
    "anatomies": ("key",),
    "runs": ("key",),
    "units": ("run_key", "idx"),
    "arrays": ("run_key", "unit_idx", "name"),
    "findings": ("id",),
    "jobs": ("id",),
}
