"""A clamp as a row of fields, valid or not; no Streamlit."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.errors import HeadlampError
from analysis.intervening.clamps import parse_clamp

VALUED = ("set", "add", "scale")
"""Modes that take a value."""

MOST_TYPED = 6
"""Most digits of a value that is shown unchanged."""

SUFFIX = {"max": "x", "residual": "r"}
"""What a value ends with in units of their own."""


def read_suffix(value: str) -> str | None:
    """The unit that a typed value ends with, as `8x` and `1.5r` do; None for a plain number."""
    end = value.strip().lower()[-1:]
    return "max" if end in ("x", "×") else "residual" if end == "r" else None


@dataclass(frozen=True)
class Row:
    """One clamp as typed, valid or not. At first 1 × residual at the prompt's last token: the neutral unit.

    exact: a measured value with all its digits, of which `value` shows three; empty for a typed one.
    """

    address: str = ""
    mode: str = "set"
    value: str = "1"
    unit: str = "residual"
    site: str = "key"
    scope: str = "last"
    exact: str = ""

    @property
    def text(self) -> str:
        """In the interface's notation; an address field that holds more than an address is the whole text."""
        if ":" in self.address or "@" in self.address:
            return self.address.strip()
        value = self.value.strip()
        if self.exact and value == shorten(self.exact):
            value = self.exact
        suffix = SUFFIX.get(self.unit, "") if self.mode in VALUED[:2] else ""
        if suffix and read_suffix(value) != self.unit:
            value += suffix
        valued = f":{value}" if self.mode in VALUED else ""
        return f"{self.address.strip()}:{self.site}:{self.mode}{valued}@{self.scope}"


def read_row(text: str) -> Row:
    """The row of a clamp's text; unparsable text stays in the address field.

    A value with more digits than a person types, 2.8284271247461903 × residual as it was measured, is shown
    as 2.83.
    """
    try:
        clamp = parse_clamp(text)
    except HeadlampError:
        return Row(address=text.strip())
    if clamp.value is None:
        return Row(str(clamp.address), clamp.mode, site=clamp.site, scope=str(clamp.scope))
    exact = repr(float(clamp.value)).removesuffix(".0")
    measured = clamp.unit == "residual" and sum(map(str.isdigit, exact)) > MOST_TYPED
    value, exact = (shorten(exact), exact) if measured else (exact, "")
    return Row(str(clamp.address), clamp.mode, value, clamp.unit, clamp.site, str(clamp.scope), exact)


def shorten(exact: str) -> str:
    """A number's text in three digits."""
    return f"{float(exact):.3g}"
