"""How a guard is set: abstention over α, per set of queries, and the α that validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import TooFewExamples
from analysis.unlearning.key_boxes import SLACK

ALPHAS = tuple(round(0.05 * i, 2) for i in range(4, 101))
"""Values of α that are tried: 0.2 to 5."""

MOST_RETAIN = 0.05
"""Share of a skill to be kept that validation may refuse; the α that forgets most under it is taken."""


@dataclass(frozen=True)
class OperatingPoint:
    """One α on validation: the share of forget queries refused, and the largest such share to be kept."""

    alpha: float
    forget: float
    worst_retain: float


def abstention(depths: Tensor, alphas: Sequence[float] = ALPHAS) -> list[float]:
    """The share of queries, depths (n,), that each α refuses; in [0, 1]."""
    return [float((depths <= alpha * SLACK).double().mean()) for alpha in alphas]


def operating_curve(
    forget: Tensor, retain: Mapping[str, Tensor], alphas: Sequence[float] = ALPHAS
) -> list[OperatingPoint]:
    """One point per α, from the depths (n,) of validation queries. Raises TooFewExamples for none."""
    if not len(forget):
        raise TooFewExamples("no validation example of the skill to forget; give more examples")
    kept = [abstention(depths, alphas) for depths in retain.values() if len(depths)]
    worst = [max(shares) for shares in zip(*kept, strict=True)] if kept else [0.0] * len(alphas)
    return [OperatingPoint(*point) for point in zip(alphas, abstention(forget, alphas), worst, strict=True)]


def chosen_point(curve: Sequence[OperatingPoint], most_retain: float = MOST_RETAIN) -> OperatingPoint:
    """The point that refuses most of the forget queries and at most `most_retain` of any skill to be kept.

    Between equals the middle one, as far from either edge as validation can tell. Where no α refuses a forget
    query under that bound, the largest difference.
    """
    allowed = [point for point in curve if point.worst_retain <= most_retain and point.forget > 0]
    best = allowed or sorted(curve, key=lambda p: p.forget - p.worst_retain)[-1:]
    most = max(point.forget for point in best)
    equals = [point for point in best if point.forget == most]
    return equals[(len(equals) - 1) // 2]


def shuffled(sizes: Sequence[int], count: int, seed: int) -> list[tuple[int, int]]:
    """`count` (set, index) pairs drawn without replacement from sets of these sizes: a box of no skill."""
    every = [(which, index) for which, size in enumerate(sizes) for index in range(size)]
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(every), generator=generator).tolist()
    return [every[i] for i in order[:count]]
