"""JSON documents: the format in which parameters, payloads and evidence are stored.

Strict JSON only: text keys, finite numbers, integers within 64 bits, a bounded depth. Values
round-trip, with tuples as lists.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from store.errors import UnstorableValue

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""Storable values; a plain copy (dict, list, …) is returned."""

MAX_DEPTH = 100
"""Levels of nesting; SQLite's own JSON functions give up at 1000."""

PATH_SHOWN = 200
"""Characters of a value's place in a document that an error shows."""

MAX_INTEGER = 2**64
"""Exclusive bound on |integer|: wide enough for any seed."""

_LONE_SURROGATES = re.compile("[\ud800-\udfff]")


def now() -> str:
    """The current time as ISO-8601 in UTC, to the millisecond; such strings sort by time."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def utc(text: str) -> str:
    """Normalise an ISO-8601 time to the format of `now`; ValueError if invalid or without a time zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r:.40} has no time zone")
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def read_typed(entry: Mapping[str, Any], name: str, *kinds: type) -> Any:
    """`entry[name]`; KeyError if missing, TypeError unless its type is one of `kinds`."""
    value = entry[name]
    if type(value) not in kinds:
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name} is {type(value).__name__}, not {expected}")
    return value


def clean_text(text: str) -> str:
    """`text` with lone surrogates, which UTF-8 cannot carry, as U+FFFD."""
    return _LONE_SURROGATES.sub("\ufffd", text)


def check_json(value: object, what: str) -> Any:
    """A plain copy of `value`, called `what` in errors; raises UnstorableValue unless it is strict JSON."""
    return _plain(value, what, 0)


def write_json(value: object) -> str:
    """`value`, already checked, as compact ASCII JSON in its own key order."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def canonicalise(value: object) -> str:
    """`value`, already checked, as canonical JSON: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: object, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise UnstorableValue(f"{where[:60]}…: nested deeper than {MAX_DEPTH} levels; flatten it")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an enumeration's member becomes its text
    if isinstance(value, int | float):
        return _plain_number(value, where)
    if isinstance(value, Mapping):
        return {
            _plain_key(key, where): _plain(item, f"{where}.{key}"[:PATH_SHOWN], depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]"[:PATH_SHOWN], depth + 1) for index, item in enumerate(value)]
    raise UnstorableValue(
        f"{where} is a {type(value).__name__}, which JSON cannot hold; "
        "pass numbers, text, booleans, None, lists or dictionaries of them"
    )


def _plain_number(value: int | float, where: str) -> int | float:
    if isinstance(value, int):
        if abs(value) >= MAX_INTEGER:
            raise UnstorableValue(f"{where} is an integer beyond 64 bits; pass it as text")
        return int(value)
    if not math.isfinite(value):
        raise UnstorableValue(f"{where} is {value}, which JSON cannot hold; pass a finite number or None")
    return float(value)


def _plain_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise UnstorableValue(f"{where} has the key {key!r}; JSON keys are text: write it as a string")
    return str.__str__(key)
