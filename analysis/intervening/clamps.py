"""Parsing of clamps: ADDRESS[:SITE]:MODE[:VALUE][@SCOPE], such as L2.N47:key:set:-8x@all.

METHODS §2; the same notation in URL, CLI, recipes and exports.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.errors import ClampError

ClampSite = Literal["key", "up", "gate"]
Mode = Literal["set", "add", "scale", "ablate", "mean"]
Unit = Literal["raw", "max", "residual"]
ScopeKind = Literal["all", "prompt", "generated", "last", "range"]

CLAMP_SITES: tuple[ClampSite, ...] = get_args(ClampSite)
MODES: tuple[Mode, ...] = get_args(Mode)
LARGEST_VALUE = 1e6
"""Largest |VALUE|: beyond it float32 logits overflow."""

_FORM = "ADDRESS[:SITE]:MODE[:VALUE][@SCOPE], such as L2.N47:key:set:-8x@all"
_NEEDS_VALUE = ("set", "add", "scale")
_SUFFIX: dict[Unit, str] = {"raw": "", "max": "x", "residual": "r"}


@dataclass(frozen=True)
class Scope:
    """The positions of the fed sequence a clamp acts on; 0-based, padding not counted."""

    kind: ScopeKind = "all"
    first: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        if self.kind == "range" and not 0 <= self.first <= self.last:
            raise ClampError(f"scope {self.first}-{self.last}: write FIRST-LAST with FIRST ≤ LAST, from 0")

    def __str__(self) -> str:
        return f"{self.first}-{self.last}" if self.kind == "range" else self.kind

    def interval(self, prompt_length: int) -> tuple[int, float]:
        """(first, last) positions, inclusive, for a prompt of that many tokens."""
        return {
            "all": (0, math.inf),
            "prompt": (0, prompt_length - 1),
            "generated": (prompt_length, math.inf),
            "last": (prompt_length - 1, prompt_length - 1),
            "range": (self.first, self.last),
        }[self.kind]


@dataclass(frozen=True)
class Clamp:
    """One neuron clamped at one site.

    value: in `unit`s; None for ablate and mean. unit `max`: × the neuron's largest |activation| on the
    reference text, position 0 excluded. unit `residual`: × the size of the residual at each position,
    divided by that of the neuron's down vector. raw: the value in the model's own units, known once
    resolved against the reference text (`mean` resolves to the mean); always None in × residual, where each
    position has its own.
    """

    address: NeuronAddress
    site: ClampSite = "key"
    mode: Mode = "set"
    value: float | None = None
    unit: Unit = "raw"
    scope: Scope = Scope()
    raw: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (("site", CLAMP_SITES), ("mode", MODES), ("unit", get_args(Unit))):
            if getattr(self, name) not in allowed:
                raise ClampError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(allowed)}")
        if (self.value is not None) != (self.mode in _NEEDS_VALUE):
            need = "needs a VALUE, such as 8x, 1.5r or 2.5" if self.mode in _NEEDS_VALUE else "takes no VALUE"
            raise ClampError(f"{self.address}: mode {self.mode} {need}; the form is {_FORM}")
        if self.value is not None and not abs(self.value) <= LARGEST_VALUE:
            raise ClampError(
                f"{self.address}: VALUE {self.value} is not a number of at most {LARGEST_VALUE:g} in size; "
                "useful values are within ±16x or ±4r"
            )
        if self.mode == "scale" and self.unit != "raw":
            raise ClampError(
                f"{self.address}: scale multiplies, so its VALUE is a plain number, without x or r"
            )
        if self.unit == "residual":
            self._check_residual()

    def _check_residual(self) -> None:
        if self.value is None:
            raise ClampError(f"{self.address}: mode {self.mode} takes no VALUE, so it has no unit")
        if self.site != "key":
            raise ClampError(
                f"{self.address}:{self.site}: × residual is what a neuron writes, so it is for its key; "
                "leave the site out, or give a plain number"
            )
        if self.raw is not None:
            raise ClampError(f"{self.address}: in × residual each position has a raw value of its own")

    def __str__(self) -> str:
        number = "" if self.value is None else repr(float(self.value)).removesuffix(".0")
        value = f":{number}{_SUFFIX[self.unit]}" if number else ""
        return f"{self.address}:{self.site}:{self.mode}{value}@{self.scope}"

    @property
    def needs_profile(self) -> bool:
        """Whether the raw value depends on the reference text."""
        return self.unit == "max" or self.mode == "mean"

    def resolve(self, *, largest: float, mean: float) -> Clamp:
        """This clamp with `raw` filled in from the neuron's maximum |activation| and mean; unchanged in ×
        residual.

        Raises ClampError where the neuron was never active (or never routed) on the reference text.
        """
        if self.mode == "mean":
            if math.isnan(mean):
                raise ClampError(
                    f"{self.address}: its expert received no token of the reference text, so it has no mean"
                )
            return replace(self, raw=mean)
        if self.unit == "max":
            if not largest > 0:
                raise ClampError(
                    f"{self.address}: never active (or never routed) on the reference text, so ×max is "
                    "undefined; "
                    " give the value as a plain number"
                )
            return replace(self, raw=cast(float, self.value) * largest)
        if self.unit == "residual":
            return self
        return replace(self, raw=0.0 if self.mode == "ablate" else self.value)


def parse_clamp(text: str) -> Clamp:
    """`L2.N47:key:set:-8x@all` → Clamp. Raises ClampError or BadAddress, showing the form."""
    body, _, scope_text = text.strip().partition("@")
    parts = body.split(":")
    address = parse_address(parts[0])
    rest = [part.strip().lower() for part in parts[1:]]
    site: ClampSite = "key"
    if rest and rest[0] in CLAMP_SITES:
        site = cast(ClampSite, rest.pop(0))
    if not rest or rest[0] not in MODES or len(rest) > 2:
        raise ClampError(
            f"{text.strip()[:80]!r} cannot be read; the form is {_FORM}, "
            f"SITE one of {', '.join(CLAMP_SITES)}, MODE one of {', '.join(MODES)}"
        )
    mode = rest[0]
    value: float | None = None
    unit: Unit = "raw"
    if len(rest) == 2:
        value, unit = parse_value(rest[1])
    return Clamp(address, site, mode, value, unit, parse_scope(scope_text or "all"))


def parse_value(text: str) -> tuple[float, Unit]:
    """`-8x` → (-8.0, "max"), `1.5r` → (1.5, "residual"), `2.5` → (2.5, "raw").

    Raises ClampError for anything not a finite number.
    """
    bare = text.strip()
    unit: Unit = "raw"
    if bare.lower().endswith(("x", "×")):
        bare, unit = bare.rstrip("xX×"), "max"
    elif bare.lower().endswith("r"):
        bare, unit = bare[:-1], "residual"
    try:
        value = float(bare)
    except ValueError:
        raise ClampError(
            f"VALUE {text[:40]!r} is not a number; write 8x (× the largest activation), 1.5r (× the "
            "residual) or 2.5"
        ) from None
    if not math.isfinite(value):
        raise ClampError(f"VALUE {text[:40]!r} is not finite; useful values are within ±16x or ±4r")
    return value, unit


def parse_scope(text: str) -> Scope:
    """`all`, `prompt`, `generated`, `last` or `3-7`. Raises ClampError naming them."""
    word = text.strip().lower()
    if word in ("all", "prompt", "generated", "last"):
        return Scope(cast(ScopeKind, word))
    match = re.fullmatch(r"(\d{1,7})[-–](\d{1,7})", word)
    if match is None:
        raise ClampError(f"SCOPE {text[:40]!r} is unknown; write all, prompt, generated, last or 3-7")
    return Scope("range", int(match.group(1)), int(match.group(2)))
