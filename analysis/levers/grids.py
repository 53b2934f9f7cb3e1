"""Values at which neurons are held, in × residual (METHODS §2)."""

from __future__ import annotations

import re
from dataclasses import replace

from analysis.anatomy.addresses import NeuronAddress
from analysis.errors import ClampError
from analysis.intervening.clamps import Clamp, ClampSite, Scope, Unit, parse_value

SIZES = tuple(0.125 * 2 ** (k / 2) for k in range(11))
"""0.125 to 4, each √2 times the one before."""
FULL = (0.0, *(sign * size for size in SIZES for sign in (1.0, -1.0)))
COARSE = tuple(sign * size for size in (SIZES[4], SIZES[7]) for sign in (1.0, -1.0))
"""± 0.5 and ± 1.41."""
MOST_VALUES = 101
_RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+)")


def hold(
    address: NeuronAddress,
    value: float,
    *,
    unit: Unit = "residual",
    site: ClampSite = "key",
    scope: Scope = Scope("last"),
) -> Clamp:
    """A clamp that sets one neuron to a value. In raw units it is resolved; × max is yet to be."""
    clamp = Clamp(address, site, "set", value, unit, scope)
    return replace(clamp, raw=value) if unit == "raw" else clamp


def scale_values(clamps: tuple[Clamp, ...], factors: tuple[float, ...]) -> tuple[Clamp, ...]:
    """The clamps with each value multiplied."""
    return tuple(
        replace(clamp, value=(clamp.value or 0.0) * factor, raw=clamp.raw and clamp.raw * factor)
        for clamp, factor in zip(clamps, factors, strict=True)
    )


def parse_values(text: str) -> tuple[tuple[float, ...], Unit]:
    """`-4r..4r` → the full grid between the two, and its unit; `-1r,0.5r,2r` → these values, in order.

    Raises ClampError for what is no number, mixed units, an empty range, and more than MOST_VALUES.
    """
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        parts = [parse_value(part) for part in text.split(",")]
        values, unit = tuple(dict.fromkeys(value for value, _ in parts)), parts[0][1]
        if any(other != unit for _, other in parts):
            raise ClampError(f"--values {text[:60]!r} mixes units; write all of them with r, x or neither")
        if len(values) > MOST_VALUES:
            raise ClampError(f"--values has {len(values)} values; give at most {MOST_VALUES}")
        return values, unit
    (low, unit), (high, other) = parse_value(match["low"]), parse_value(match["high"])
    if unit != other:
        raise ClampError(f"--values {text[:60]!r} mixes units; write both ends with r, x or neither")
    if low > high:
        raise ClampError(f"--values {text[:60]!r} is empty; write the lower end first, such as -4r..4r")
    return spread_values(low, high), unit


def spread_values(low: float, high: float) -> tuple[float, ...]:
    """0 and 11 sizes of each sign up to the larger end, each √2 times the one before, within [low, high].

    Both ends are among them.
    """
    largest = max(abs(low), abs(high))
    sizes = [size * largest / SIZES[-1] for size in SIZES]
    values = {0.0, low, high, *sizes, *(-size for size in sizes)}
    return tuple(sorted(value for value in values if low <= value <= high))
