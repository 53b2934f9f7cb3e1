"""Operating points of a guard: abstention over α or over the margin to rivals, chosen on validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import TooFewExamples
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_guards import guard_depths, split_depths

ALPHAS = (*(round(0.05 * i, 2) for i in range(4, 61)), *(round(0.1 * i, 1) for i in range(31, 101)))
"""Candidate values of α: 0.2 to 10."""

MARGINS = tuple(round(1.05**i, 4) for i in range(-50, 51))
"""Candidate margins: 0.09 to 11.5, in steps of 5 %."""

ROOM, MOST = 1.5, 0.95
"""α of a guard with rivals: the first of ALPHAS above ROOM × the depth that MOST of the refused validation
queries are below."""

MOST_RETAIN = 0.05
"""Largest share of a retain skill that may be refused on validation; among such points the one that forgets
most is chosen."""


@dataclass(frozen=True)
class OperatingPoint:
    """One setting on validation: the share of forget queries refused, and the largest share of a retain skill
    refused.

    margin: None for a guard without rivals.
    """

    alpha: float
    forget: float
    worst_retain: float
    margin: float | None = None


@dataclass(frozen=True, eq=False)
class Checks:
    """A guard's checks of some queries. depths (c, layers, 1 + rivals), the guard's own first; query (c,):
    the query of each check. A prefill guard has one check per query.
    """

    depths: Tensor
    query: Tensor
    count: int

    def layers(self, chosen: Sequence[int]) -> Checks:
        """The checks in some of the layers, by index."""
        return Checks(self.depths[:, list(chosen)], self.query, self.count)

    def least(self, margin: float = 1.0) -> Tensor:
        """(count,) the smallest α at which each query is refused at any check; inf: never."""
        found = torch.full((self.count,), torch.inf)
        return found.scatter_reduce(0, self.query, guard_depths(self.depths, margin), "amin")

    def nearness(self) -> Tensor:
        """(count,) each query's smallest depth, divided by its nearest rival's if there are any."""
        own = guard_depths(self.depths, torch.inf) if self.depths.shape[-1] == 1 else _ratio(self.depths)
        return torch.full((self.count,), torch.inf).scatter_reduce(0, self.query, own, "amin")


def make_single_checks(depths: Tensor) -> Checks:
    """Checks of queries with one check each, at depths (n,), without rivals."""
    return Checks(depths[:, None, None], torch.arange(len(depths)), len(depths))


def _ratio(depths: Tensor) -> Tensor:
    own, rival = split_depths(depths)
    return own / rival


def measure_abstention(depths: Tensor, alphas: Sequence[float] = ALPHAS) -> list[float]:
    """The share of queries, with depths (n,), refused at each α; in [0, 1]."""
    return [_share(depths, alpha) for alpha in alphas]


def trace_operating_curve(
    forget: Checks, retain: Mapping[str, Checks], alphas: Sequence[float] = ALPHAS
) -> list[OperatingPoint]:
    """One point per α without rivals, per margin of MARGINS with them, from validation's checks.

    Raises TooFewExamples if there is no forget query.
    """
    if not forget.count:
        raise TooFewExamples("no validation example of the forget skill; give more examples")
    kept = [checks for checks in retain.values() if checks.count]
    if forget.depths.shape[-1] > 1:
        return list(_by_margin(forget, kept)) or [_never(kept)]
    own, others = forget.least(), [checks.least() for checks in kept]
    return [OperatingPoint(alpha, _share(own, alpha), _worst(others, alpha)) for alpha in alphas]


def _by_margin(forget: Checks, kept: Sequence[Checks]) -> Iterator[OperatingPoint]:
    for margin in MARGINS:
        own = forget.least(margin)
        near = own[own.isfinite()]
        if len(near):
            wanted = ROOM * float(near.quantile(MOST))
            alpha = next((a for a in ALPHAS if a >= wanted), round(wanted, 1))
            worst = _worst([checks.least(margin) for checks in kept], alpha)
            yield OperatingPoint(alpha, _share(own, alpha), worst, margin)


def _never(kept: Sequence[Checks]) -> OperatingPoint:
    """The widest margin, if even there a rival is nearer to every forget query."""
    worst = _worst([checks.least(MARGINS[-1]) for checks in kept], ALPHAS[-1])
    return OperatingPoint(ALPHAS[-1], 0.0, worst, MARGINS[-1])


def choose_point(
    curve: Sequence[OperatingPoint], most_retain: float = MOST_RETAIN, *, bounded: bool = True
) -> OperatingPoint:
    """Choose the point that refuses most forget queries and at most `most_retain` of any retain skill.

    Of ties the middle one, furthest from both edges; the first if there is no retain skill (not bounded).
    If no point within the bound refuses a forget query, the largest difference.
    """
    allowed = [point for point in curve if point.worst_retain <= most_retain and point.forget > 0]
    best = allowed or sorted(curve, key=lambda p: p.forget - p.worst_retain)[-1:]
    most = max(point.forget for point in best)
    equals = [point for point in best if point.forget == most]
    return equals[(len(equals) - 1) // 2 if bounded else 0]


def measure_separation(forget: Checks, retain: Mapping[str, Checks]) -> float:
    """The smallest P(a forget query is nearer than a retain query) over retain skills; 1 without any."""
    own = forget.nearness()[:, None]
    others = [checks.nearness()[None] for checks in retain.values() if checks.count]
    shares = [float(((own < other).double() + 0.5 * (own == other).double()).mean()) for other in others]
    return min(shares, default=1.0)


def _share(depths: Tensor, alpha: float) -> float:
    return float((depths <= alpha * SLACK).double().mean())


def _worst(kept: Sequence[Tensor], alpha: float) -> float:
    return max((_share(depths, alpha) for depths in kept), default=0.0)
