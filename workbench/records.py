"""Records as JSON: frozen dataclasses written with a key for each field, and read back by their types.

Clamps and addresses are written as they are typed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp, parse_clamp

Record = TypeVar("Record")
TEXTS: Mapping[type, Callable[[str], object]] = {Clamp: parse_clamp, NeuronAddress: parse_address}
"""Types that are written as a person types them, and how that is read."""


class IncompleteRecord(HeadlampError, ValueError):
    """A document lacks a field of the record that it is to hold, or has one of another type."""


def write_record(record: object) -> dict[str, Any]:
    """A record as plain JSON, in the order of its fields: tuples as lists, records as objects."""
    return {field.name: _write(getattr(record, field.name)) for field in _fields(type(record))}


def read_record(kind: type[Record], document: object) -> Record:
    """The record that `write_record` wrote. A missing field takes its default; other keys are ignored.

    A field that is a record already stays. Raises IncompleteRecord for a field that is missing and has no
    default, and for one of another type.
    """
    return _read_record(kind, document, "")


def read_odd_record(kind: type[Record], document: object) -> Record:
    """A record whose fields all have defaults, from any value: what is missing or odd takes its default."""
    given = document if isinstance(document, Mapping) else {}
    types = _types(kind)
    found: dict[str, Any] = {}
    for field in _fields(kind):
        try:
            found[field.name] = _read(types[field.name], given[field.name], field.name)
        except (KeyError, IncompleteRecord):
            continue
    return kind(**found)


@lru_cache(maxsize=256)
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind)


def _types(kind: Any) -> dict[str, Any]:
    return _hints(kind)


def _fields(kind: Any) -> tuple[Field[Any], ...]:
    return fields(kind)


def _write(value: Any) -> Any:
    if type(value) in TEXTS:
        return str(value)
    if is_dataclass(value):
        return write_record(value)
    if isinstance(value, list | tuple):
        return [_write(one) for one in value]
    return {name: _write(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _read_record(kind: type[Record], document: object, place: str) -> Record:
    if not isinstance(document, Mapping):
        raise _refuse(place or kind.__name__, document, "an object")
    types, found = _types(kind), dict[str, Any]()
    for field in _fields(kind):
        where = f"{place}.{field.name}".lstrip(".")
        if field.name in document:
            found[field.name] = _read(types[field.name], document[field.name], where)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise IncompleteRecord(f"{where} is missing; request the answer again")
    return kind(**found)


def _read(kind: Any, value: Any, place: str) -> Any:
    """The value as its type: itself, or a record, a tuple or a mapping of them."""
    origin, inner = get_origin(kind), get_args(kind)
    record = isinstance(kind, type) and is_dataclass(kind)
    if kind is Any or (record and isinstance(value, kind)):
        return value
    if kind in TEXTS and isinstance(value, str):
        return _read_text(kind, value, place)
    if origin in (Union, UnionType):
        return _read_either(inner, value, place)
    if origin is Literal and value in inner:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return _read_tuple(inner, value, place)
    if isinstance(value, Mapping) and isinstance(origin, type) and issubclass(dict, origin):
        return {name: _read(inner[1], one, f"{place}.{name}") for name, one in value.items()}
    if record:
        return _read_record(kind, value, place)
    if _is_plain(kind, value):
        return value
    raise _refuse(place, value, getattr(kind, "__name__", str(kind)))


def _read_text(kind: type, value: str, place: str) -> object:
    try:
        return TEXTS[kind](value)
    except HeadlampError as error:
        raise IncompleteRecord(f"{place}: {error}") from error


def _read_either(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    refused = IncompleteRecord(f"{place} is of no known type")
    for kind in sorted(kinds, key=lambda one: one is not NoneType):
        try:
            return _read(kind, value, place)
        except IncompleteRecord as error:
            refused = error
    raise refused


def _read_tuple(kinds: tuple[Any, ...], value: list[Any] | tuple[Any, ...], place: str) -> tuple[Any, ...]:
    each = [kinds[0]] * len(value) if kinds[-1] is Ellipsis else list(kinds)
    if len(each) != len(value):
        raise _refuse(place, value, f"a list of {len(each)}")
    return tuple(
        _read(kind, one, f"{place}[{at}]") for at, (kind, one) in enumerate(zip(each, value, strict=True))
    )


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a value is of a plain type: a whole number is also a float, a truth value is no number."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return kind in (NoneType, str, int) and isinstance(value, kind)


def _refuse(place: str, value: object, wanted: str) -> IncompleteRecord:
    return IncompleteRecord(
        f"{place} is {type(value).__name__} {str(value)[:40]!r}, not {wanted}; request the answer again"
    )
