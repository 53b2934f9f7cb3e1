"""How a guard is set: abstention over α or over the margin to its rivals, and what validation chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import TooFewExamples
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_guards import guard_depths, own_and_rival

ALPHAS = (*(round(0.05 * i, 2) for i in range(4, 61)), *(round(0.1 * i, 1) for i in range(31, 101)))
"""Values of α that are tried: 0.2 to 10."""

MARGINS = tuple(round(1.05**i, 4) for i in range(-50, 51))
"""Margins that are tried: 0.09 to 11.5, each 5 % above the one before."""

ROOM, MOST = 1.5, 0.95
"""α of a guard with rivals: the first of ALPHAS that is ROOM × the depth which MOST of validation's queries
to refuse are under."""

MOST_RETAIN = 0.05
"""Share of a skill to be kept that validation may refuse; the point that forgets most under it is taken."""


@dataclass(frozen=True)
class OperatingPoint:
    """One setting on validation: the share of forget queries refused, and the largest such share to be kept.

    margin: None for a guard without rivals.
    """

    alpha: float
    forget: float
    worst_retain: float
    margin: float | None = None


@dataclass(frozen=True, eq=False)
class Checks:
    """What a guard sees of some queries. depths (c, layers, 1 + rivals), the guard's own first; query (c,):
    whose check each is. One check a query where the guard looks at the prompt alone."""

    depths: Tensor
    query: Tensor
    count: int

    def layers(self, chosen: Sequence[int]) -> Checks:
        """The same of some of the layers, by their places."""
        return Checks(self.depths[:, list(chosen)], self.query, self.count)

    def least(self, margin: float = 1.0) -> Tensor:
        """(count,) the smallest α at which each query is refused at some check; inf: at none."""
        found = torch.full((self.count,), torch.inf)
        return found.scatter_reduce(0, self.query, guard_depths(self.depths, margin), "amin")

    def nearness(self) -> Tensor:
        """(count,) each query's smallest depth, over its nearest rival's where there are any."""
        own = guard_depths(self.depths, torch.inf) if self.depths.shape[-1] == 1 else _ratio(self.depths)
        return torch.full((self.count,), torch.inf).scatter_reduce(0, self.query, own, "amin")


def looked_at_once(depths: Tensor) -> Checks:
    """Queries that one check each decides, at these depths (n,), without rivals."""
    return Checks(depths[:, None, None], torch.arange(len(depths)), len(depths))


def _ratio(depths: Tensor) -> Tensor:
    own, rival = own_and_rival(depths)
    return own / rival


def abstention(depths: Tensor, alphas: Sequence[float] = ALPHAS) -> list[float]:
    """The share of queries, depths (n,), that each α refuses; in [0, 1]."""
    return [_share(depths, alpha) for alpha in alphas]


def operating_curve(
    forget: Checks, retain: Mapping[str, Checks], alphas: Sequence[float] = ALPHAS
) -> list[OperatingPoint]:
    """One point per α without rivals, per margin of MARGINS with them, from validation's checks.

    Raises TooFewExamples where there is no forget query.
    """
    if not forget.count:
        raise TooFewExamples("no validation example of the skill to forget; give more examples")
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
    """The widest margin, where a rival is nearer to every forget query at that too."""
    worst = _worst([checks.least(MARGINS[-1]) for checks in kept], ALPHAS[-1])
    return OperatingPoint(ALPHAS[-1], 0.0, worst, MARGINS[-1])


def chosen_point(
    curve: Sequence[OperatingPoint], most_retain: float = MOST_RETAIN, *, bounded: bool = True
) -> OperatingPoint:
    """The point that refuses most of the forget queries and at most `most_retain` of any skill to be kept.

    Between equals the middle one, as far from either edge as validation can tell; the first where there is
    nothing to be kept (not bounded), and so no other edge. Where no point refuses a forget query under that
    bound, the largest difference.
    """
    allowed = [point for point in curve if point.worst_retain <= most_retain and point.forget > 0]
    best = allowed or sorted(curve, key=lambda p: p.forget - p.worst_retain)[-1:]
    most = max(point.forget for point in best)
    equals = [point for point in best if point.forget == most]
    return equals[(len(equals) - 1) // 2 if bounded else 0]


def separation(forget: Checks, retain: Mapping[str, Checks]) -> float:
    """The smallest over skills to be kept of P(a forget query is nearer than a kept one); 1 without any."""
    own = forget.nearness()[:, None]
    others = [checks.nearness()[None] for checks in retain.values() if checks.count]
    shares = [float(((own < other).double() + 0.5 * (own == other).double()).mean()) for other in others]
    return min(shares, default=1.0)


def _share(depths: Tensor, alpha: float) -> float:
    return float((depths <= alpha * SLACK).double().mean())


def _worst(kept: Sequence[Tensor], alpha: float) -> float:
    return max((_share(depths, alpha) for depths in kept), default=0.0)
