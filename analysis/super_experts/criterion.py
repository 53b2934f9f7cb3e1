"""The criterion of super experts and its thresholds (METHODS §3; arXiv 2507.23279)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from analysis.errors import ExpertError
from analysis.super_experts.profile import BlockRow, ExpertProfile

Rule = Literal["auto", "percentile", "forms"]
Layers = Literal["massive", "first75", "all"]
Clause = Literal["percentile", "ratio", "layers", "half", "supplied", "forms"]
RULES: tuple[Rule, ...] = get_args(Rule)
LAYERS: tuple[Layers, ...] = get_args(Layers)
PERCENTILE, RATIO, FIRST = 99.5, 0.1, 0.75
FEW = 400
"""With fewer experts than this, and for dense models, `auto` selects the rule `forms`."""
FORMER = "small"
"""A rule of earlier versions, log a by median and MAD: it missed super weights."""
DEVIATIONS, TO_SIGMA = 5.0, 1.4826
"""How many deviations out an outlier is; 1.4826 · MAD estimates a normal sample's deviation."""
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Criterion:
    """What makes an expert super. percentile in (0, 100), ratio in [0, 1] of max(A).

    Rule `forms` goes by no size, so percentile and ratio do not matter to it. as_released: the authors' code.
    It fixes all options: the percentile rule, max // 10, which is 0 below 10, and A of the first 75 % of the
    layers: of routed experts one token of each window, the first for which the expert is the router's first
    choice, else its second, and so on; 0 for those that saw none; of shared experts all tokens.
    """

    rule: Rule = "auto"
    percentile: float = PERCENTILE
    ratio: float = RATIO
    layers: Layers = "massive"
    as_released: bool = False

    def __post_init__(self) -> None:
        if str(self.rule) == FORMER:
            raise ExpertError(
                "rule 'small' is no longer offered: by median and MAD it misses super weights; choose forms, "
                "which needs no scale and asks which expert or block forms a massive activation"
            )
        for name, allowed in (("rule", RULES), ("layers", LAYERS)):
            if getattr(self, name) not in allowed:
                raise ExpertError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(allowed)}")
        if not 0 < self.percentile < 100:
            raise ExpertError(
                f"percentile {self.percentile:g}: choose one between 0 and 100, such as {PERCENTILE}"
            )
        if not 0 <= self.ratio <= 1:
            raise ExpertError(f"ratio {self.ratio:g}: choose one from 0 to 1, such as {RATIO}")
        if self.as_released and replace(self, as_released=False) != Criterion():
            raise ExpertError("as released fixes rule, percentile, ratio and layers; leave those options out")


@dataclass(frozen=True)
class Threshold:
    """The thresholds of the clauses. rule: the one in force; size: how many experts A has.

    percentile_value, ratio_value: lower bounds of a in the rule `percentile`. outlier_value: a below it is no
    outlier by median and MAD, which decides nothing; None if there is nothing to compare with. layers: L,
    the layers that layers_rule names.
    """

    rule: Literal["percentile", "forms"]
    percentile: float
    percentile_value: float
    outlier_value: float | None
    ratio: float
    ratio_value: float
    layers_rule: Layers
    layers: tuple[int, ...]
    as_released: bool
    size: int


def collect_maxima(profile: ExpertProfile, *, as_released: bool) -> tuple[list[BlockRow], Array]:
    """The experts in A (or blocks of a dense model), and a of each (n,)."""
    rows = list(profile.experts or profile.dense)
    if as_released:
        first = _first_layers(profile)
        rows = [row for row in rows if row.block.address.layer in first]
    if not any(row.count for row in rows):
        raise ExpertError("no expert saw a token of this text; give a longer one")
    if not as_released:
        rows = [row for row in rows if row.count]
    firsts = [row.first_routed if as_released and row.block.routed else row.max_abs for row in rows]
    return rows, np.array(firsts, np.float64)


def _first_layers(profile: ExpertProfile) -> tuple[int, ...]:
    every = sorted({row.block.address.layer for row in profile.blocks})
    return tuple(layer for layer in every if layer < round(FIRST * profile.depth))


def select_massive_layers(profile: ExpertProfile, criterion: Criterion) -> tuple[int, ...]:
    """L. Layers with an unknown FFN contribution are never `massive`."""
    if criterion.as_released or criterion.layers == "first75":
        return _first_layers(profile)
    if criterion.layers == "all":
        return tuple(sorted({row.block.address.layer for row in profile.blocks}))
    return tuple(row.layer for row in profile.layers if row.formed is not None)


def choose_rule(profile: ExpertProfile, size: int, criterion: Criterion) -> Literal["percentile", "forms"]:
    """The rule in force among `size` experts."""
    if criterion.as_released:
        return "percentile"
    if criterion.rule != "auto":
        return criterion.rule
    return "forms" if size < FEW or not profile.experts else "percentile"


def compute_thresholds(
    sizes: Array,
    layers: Array,
    within: Sequence[int],
    criterion: Criterion,
    rule: Literal["percentile", "forms"],
) -> Threshold:
    """The thresholds for a (n,) in layers (n,), with L = within."""
    largest = float(sizes.max())
    return Threshold(
        rule=rule,
        percentile=criterion.percentile,
        percentile_value=float(np.percentile(sizes, criterion.percentile)),
        outlier_value=outlier_bound(sizes[layers <= max(within)] if within else sizes),
        ratio=criterion.ratio,
        ratio_value=float(largest // 10) if criterion.as_released else largest * criterion.ratio,
        layers_rule="first75" if criterion.as_released else criterion.layers,
        layers=tuple(within),
        as_released=criterion.as_released,
        size=len(sizes),
    )


def outlier_bound(sizes: Array) -> float | None:
    """exp(median + 5 · 1.4826 · MAD) of log a over those above 0; None if there are none."""
    logs = np.log(sizes[sizes > 0])
    if not len(logs):
        return None
    median = float(np.median(logs))
    return math.exp(median + DEVIATIONS * TO_SIGMA * float(np.median(np.abs(logs - median))))
