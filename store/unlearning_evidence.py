"""Evidence of unlearning, for pages and exports: verdicts of methods; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.odd_fields import read_bool, read_field, read_list, read_map, read_number

MEASURE_COLUMNS = ("measured", "of", "value", "95 %", "n", "bound", "kept")
METHOD_TITLES = {"ksd": "KSD", "na": "Neuron Adjust", "sp": "Selective pruning"}
_MARKS = {True: "✓ yes", False: "✗ no", None: "not measured"}


@dataclass(frozen=True)
class MeasureFacts:
    """A row of a verdict. value: None: not measured. within: whether it keeps its bound; None: unknown."""

    what: str
    name: str
    value: float | None
    interval: tuple[float, float] | None
    n: int
    bound: str
    within: bool | None

    def cells(self) -> tuple[str, ...]:
        """Its row under MEASURE_COLUMNS."""
        ends = "" if self.interval is None else " – ".join(map(_digits, self.interval))
        shown = "–" if self.value is None else _digits(self.value)
        return (self.what, self.name, shown, ends, str(self.n or "–"), self.bound, _MARKS[self.within])


@dataclass(frozen=True)
class MethodVerdict:
    """What a method's document says of it. took: what it needs, in one line."""

    method: str
    reached: bool | None
    sentence: str
    took: str
    rows: tuple[MeasureFacts, ...]

    @property
    def title(self) -> str:
        """The method's name, also of an unknown one."""
        return METHOD_TITLES.get(self.method, self.method)


def read_method_verdicts(evidence: Mapping[str, Any]) -> tuple[MethodVerdict, ...]:
    """The verdict of every method that has one; none for evidence of another kind. Never raises."""
    methods = read_list(read_map(evidence.get("document")).get("methods"))
    found = (read_method_verdict(read_map(method)) for method in methods)
    return tuple(one for one in found if one is not None)


def read_method_verdict(method: Mapping[str, Any]) -> MethodVerdict | None:
    """The verdict in a method's document; None without one. Never raises."""
    verdict = read_map(method.get("verdict"))
    sentence = read_field(verdict.get("sentence"))
    if not sentence:
        return None
    took = read_map(verdict.get("took"))
    return MethodVerdict(
        method=read_field(method.get("method")),
        reached=read_bool(verdict.get("reached")),
        sentence=sentence,
        took=" · ".join(f"{read_field(name)} {read_field(value)}" for name, value in took.items()),
        rows=tuple(_read_row(read_map(row)) for row in read_list(verdict.get("rows"))),
    )


def _read_row(row: Mapping[str, Any]) -> MeasureFacts:
    ends = [read_number(end) for end in read_list(row.get("interval"))]
    low, high = ends if len(ends) == 2 else (None, None)
    return MeasureFacts(
        what=read_field(row.get("what")),
        name=read_field(row.get("name")),
        value=read_number(row.get("value")),
        interval=None if low is None or high is None else (low, high),
        n=int(read_number(row.get("n")) or 0),
        bound=read_field(row.get("bound")),
        within=read_bool(row.get("within")),
    )


def _digits(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")
