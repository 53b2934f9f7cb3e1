"""A clamp as a row of fields, valid or not; no Streamlit."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp

VALUED = ("set", "add", "scale")
"""Modes that take a value."""

SUFFIX = {"max": "x", "residual": "r"}
"""What a value ends with in units of their own."""


def read_suffix(value: str) -> str | None:
    """The unit that a typed value ends with, as `8x` and `1.5r` do; None for a plain number."""
    end = value.strip().lower()[-1:]
    return "max" if end in ("x", "×") else "residual" if end == "r" else None


@dataclass(frozen=True)
class Row:
    """One clamp as typed, valid or not."""

    address: str = ""
    mode: str = "set"
    value: str = "8"
    unit: str = "max"
    site: str = "key"
    scope: str = "all"

    @property
    def text(self) -> str:
        """In the interface's notation; an address field that holds more than an address is the whole text."""
        if ":" in self.address or "@" in self.address:
            return self.address.strip()
        value = self.value.strip()
        suffix = SUFFIX.get(self.unit, "") if self.mode in VALUED[:2] else ""
        if suffix and read_suffix(value) != self.unit:
            value += suffix
        valued = f":{value}" if self.mode in VALUED else ""
        return f"{self.address.strip()}:{self.site}:{self.mode}{valued}@{self.scope}"


def read_row(text: str) -> Row:
    """The row of a clamp's text; unparsable text stays in the address field."""
    try:
        clamp = parse_clamp(text)
    except HeadlampError:
        return Row(address=text.strip())
    value = "8" if clamp.value is None else repr(float(clamp.value)).removesuffix(".0")
    unit = "max" if clamp.value is None else clamp.unit
    return Row(str(clamp.address), clamp.mode, value, unit, clamp.site, str(clamp.scope))
