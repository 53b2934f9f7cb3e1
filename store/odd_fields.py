"""Fields of an evidence document, whatever they hold: what is missing or odd becomes empty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from store.documents import clean_text


def read_map(value: object) -> Mapping[str, Any]:
    """A mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def read_list(value: object) -> list[Any]:
    """A list; an empty one for anything else."""
    return list(value) if isinstance(value, list | tuple) else []


def read_field(value: object) -> str:
    """A storable text; "" for anything else."""
    return clean_text(value) if isinstance(value, str) else ""


def read_number(value: object) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_bool(value: object) -> bool | None:
    """True or False; None for anything else."""
    return value if isinstance(value, bool) else None


def read_turns(value: object) -> str:
    """Turns, [role, text] each, as lines that begin with the role; without odd ones."""
    pairs = [[read_field(part) for part in read_list(turn)] for turn in read_list(value)]
    return "\n".join(f"{pair[0]}: {pair[1]}" for pair in pairs if len(pair) == 2)
