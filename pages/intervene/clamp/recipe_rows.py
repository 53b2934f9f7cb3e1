"""A clamp as a row of fields, valid or not; no Streamlit."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp

VALUED = ("set", "add", "scale")
"""Modes that take a value."""


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
        if self.unit == "max" and self.mode != "scale" and not value.lower().endswith(("x", "×")):
            value += "x"
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
