"""Detection of super experts from the experts' largest outputs (METHODS §3; Su et al., arXiv 2507.23279, ICLR
2026).

    a_{l,e} = max |down output| over all tokens routed to expert e of layer l;  A = a of all that saw one
    (l, e) is super  ⇔  a > P99.5(A)  and  a > max(A) / 10  and  l ∈ L        (rule `percentile`)

With few experts a percentile is an argmax. Rule `small`, the default below 400 experts, requires instead
log a > median + 5 · 1.4826 · MAD of log a over the layers ≤ max L. All of it is arithmetic on stored maxima,
so percentile, ratio and L change without reading the text again. A dense model's blocks are compared
with one another in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.super_experts.criterion import (
    Array,
    Clause,
    Criterion,
    Threshold,
    collect_maxima,
    compute_thresholds,
    select_massive_layers,
)
from analysis.super_experts.profile import BlockRow, ExpertProfile
from analysis.super_experts.remarks import list_remarks


@dataclass(frozen=True)
class NearMiss:
    """A block that passes every clause but one."""

    row: BlockRow
    rule: Clause


@dataclass(frozen=True)
class SuperExpertVerdict:
    """Which blocks are super, largest first, which are near misses, and remarks."""

    supers: tuple[BlockRow, ...]
    near_misses: tuple[NearMiss, ...]
    threshold: Threshold
    remarks: tuple[str, ...]


def find_super_experts(profile: ExpertProfile, criterion: Criterion = Criterion()) -> SuperExpertVerdict:
    """Apply a criterion to a profile's experts, or to the blocks of a dense model.

    Raises ExpertError if no expert saw a token.
    """
    rows, sizes = collect_maxima(profile, as_released=criterion.as_released)
    within = select_massive_layers(profile, criterion)
    layers = np.array([row.block.address.layer for row in rows])
    threshold = compute_thresholds(sizes, layers, within, criterion)
    clauses = _clauses(sizes, layers, threshold)
    passed = np.stack(list(clauses.values())).sum(0)
    order = np.argsort(-sizes, kind="stable")
    supers = tuple(rows[i] for i in order if passed[i] == len(clauses))
    near = tuple(
        NearMiss(rows[i], next(name for name, holds in clauses.items() if not holds[i]))
        for i in order
        if passed[i] == len(clauses) - 1
    )
    said = list_remarks(profile, threshold, rows, sizes)
    if threshold.layers and not supers and not near:
        said += ("None passes all clauses, and none fails exactly one.",)
    return SuperExpertVerdict(supers, near, threshold, said)


def _clauses(sizes: Array, layers: Array, threshold: Threshold) -> dict[Clause, Array]:
    """Which of the (n,) sizes satisfy each clause."""
    small = threshold.rule == "small"
    bound = threshold.small_value if small else threshold.percentile_value
    return {
        "small" if small else "percentile": sizes > (math.inf if bound is None else bound),
        "ratio": sizes > threshold.ratio_value,
        "layers": np.isin(layers, threshold.layers),
    }
