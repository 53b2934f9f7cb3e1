"""Detection of super experts from the experts' largest outputs (METHODS §3; Su et al., arXiv 2507.23279, ICLR
2026).

    a_{l,e} = max |down output| over all tokens routed to expert e of layer l;  A = a of all that saw one
    (l, e) is super  ⇔  a > P99.5(A)  and  a > max(A) / 10  and  l ∈ L        (rule `percentile`)

With few experts a percentile is an argmax. Rule `forms`, the default below 400 experts and for the blocks of
dense models, asks instead which of them forms a massive activation (`forming.py`), in any window of the text.
All of it is arithmetic on what is stored, so rule, percentile, ratio and L change without reading again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.errors import ExpertError
from analysis.super_experts.controls import Part, list_super_parts
from analysis.super_experts.criterion import (
    Clause,
    Criterion,
    Threshold,
    choose_rule,
    collect_maxima,
    compute_thresholds,
    select_massive_layers,
)
from analysis.super_experts.forming import NEAR
from analysis.super_experts.profile import BlockFormation, BlockRow, ExpertProfile
from analysis.super_experts.remarks import REASONS, list_remarks


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
    threshold = compute_thresholds(
        sizes, layers, within, criterion, choose_rule(profile, len(rows), criterion)
    )
    order = np.argsort(-sizes, kind="stable")
    judged = [(rows[i], _judge(rows[i], float(sizes[i]), threshold)) for i in order]
    supers = tuple(row for row, failed in judged if not failed)
    near = tuple(NearMiss(row, failed[0]) for row, failed in judged if len(failed) == 1)
    said = list_remarks(profile, threshold, rows, sizes)
    if threshold.layers and not supers and not near:
        said += ("None passes all clauses, and none fails exactly one.",)
    return SuperExpertVerdict(supers, near, threshold, said)


def choose_super_parts(verdict: SuperExpertVerdict) -> list[Part]:
    """The parts to prune as `super`. Raises ExpertError, with the reason, where nothing is super."""
    if not verdict.supers:
        raise ExpertError(f"{explain_none(verdict)} Name what to prune instead, such as L1.E68 or L11.N1229.")
    return list_super_parts(verdict.supers)


def explain_none(verdict: SuperExpertVerdict) -> str:
    """Why nothing is super: what came near, and whether anything is massive, or known to be."""
    near = [f"{miss.row.block.address} (fails {miss.rule})" for miss in verdict.near_misses[:3]]
    reasons = [remark for remark in verdict.remarks if remark.startswith(REASONS)]
    came = f"; near misses: {', '.join(near)}" if near else ""
    rule = verdict.threshold.rule
    return " ".join(
        [f"Nothing is super under the rule {rule}, so there is nothing to prune{came}.", *reasons]
    )


def _judge(row: BlockRow, size: float, threshold: Threshold) -> list[Clause]:
    """The clauses that a block of this size fails."""
    clauses: dict[Clause, bool] = {
        "percentile": size > threshold.percentile_value,
        "ratio": size > threshold.ratio_value,
        "layers": row.block.address.layer in threshold.layers,
    }
    if threshold.rule == "percentile":
        return [name for name, holds in clauses.items() if not holds]
    found = row.formation or BlockFormation()
    if found.formed:
        return [] if clauses["layers"] else ["layers"]
    if found.jointly or found.share >= NEAR:
        return ["half"]
    if found.apart:
        return ["supplied"]
    return ["forms"] if clauses["percentile"] and clauses["ratio"] else ["forms", "percentile"]
