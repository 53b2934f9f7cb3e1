"""Numbers in texts: the last one of an output, and the only one of an answer."""

from __future__ import annotations

import math
import re
import unicodedata

_EXPONENT = r"(?:[eE][-+−]?\d+(?!\w))?"
_NUMBER = re.compile(rf"[-+−]?\d[\d,]*(?:\.\d+)?{_EXPONENT}|[-+−]?\.\d+{_EXPONENT}")
_GROUPED = re.compile(rf"[-+−]?(?:\d*|\d{{1,3}}(?:,\d{{2,3}})*,\d{{3}})(?:\.\d+)?{_EXPONENT}")
"""A number whose commas, if it has any, separate thousands."""


def find_last_number(text: str) -> float | None:
    """The last number of a text; None if there is none.

    Commas are left out, and `1.5e3` is 1500. A sign counts only if no letter, digit or closing bracket
    precedes it: `7-2` ends in 2.
    """
    every = list(_NUMBER.finditer(text))
    return _value(text, every[-1]) if every else None


def read_number(text: str) -> float | None:
    """The number that a text states, with or without a unit: `1,072`, `$.50`, `−3 °C`, `1e-07`.

    None where it states none, several (`1/2`, `3 m2`), one that is not finite, one with a fraction sign, or
    one with a comma that separates no thousands (`1,5`).
    """
    every = list(_NUMBER.finditer(text))
    if len(every) != 1 or any(unicodedata.category(one) in ("No", "Nl") for one in text):
        return None
    value = _value(text, every[0])
    return value if _GROUPED.fullmatch(every[0].group().rstrip(",")) and math.isfinite(value) else None


def _value(text: str, found: re.Match[str]) -> float:
    digits = found.group().replace(",", "").replace("−", "-")
    before = text[: found.start()][-1:]
    return float(digits.lstrip("+-") if before.isalnum() or before == ")" else digits)
