"""Caveats of a verdict on super experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.super_experts.criterion import Array, Threshold
from analysis.super_experts.profile import BlockRow, ExpertProfile
from analysis.super_experts.residuals import MASSIVE, TIMES_MEDIAN

REASONS = ("In this architecture", "No layer forms")
"""How remarks begin that say why nothing is super."""


def list_remarks(
    profile: ExpertProfile, threshold: Threshold, rows: Sequence[BlockRow], sizes: Array
) -> tuple[str, ...]:
    """What a reader must know to interpret the verdict."""
    said = list[str]()
    layers = np.array([row.block.address.layer for row in rows])
    if not profile.experts:
        said.append("This model has no experts: its FFN blocks are compared with one another instead.")
    unseen = sum(not row.count for row in profile.experts)
    if unseen:
        what = "count as 0, as released" if threshold.as_released else "are left out"
        said.append(f"{unseen} of {len(profile.experts)} experts saw no token of this text and {what}.")
    if threshold.layers_rule == "massive" or threshold.rule == "forms":
        said += _layer_remarks(profile, threshold)
    said += _forming_remarks(profile)
    said += _outlier_remarks(threshold, layers, sizes)
    top = rows[int(sizes.argmax())].block.address
    if threshold.rule == "percentile" and threshold.layers and top.layer not in threshold.layers:
        said.append(
            f"The largest a of all, {sizes.max():.4g}, is that of {top}, whose layer is not in L: the last "
            "layers often have the largest outputs without forming a massive activation."
        )
    return tuple(said)


def _outlier_remarks(threshold: Threshold, layers: Array, sizes: Array) -> list[str]:
    """Whether the largest a stands out at all."""
    inside = layers <= max(threshold.layers) if threshold.layers else np.ones(len(layers), bool)
    bound, largest = threshold.outlier_value, float(sizes[inside].max())
    if bound is None or largest > bound:
        return []
    why = {"percentile": "a percentile always selects one", "forms": "the rule forms does not go by size"}
    return [
        f"The largest a, {largest:.4g}, is no outlier ({bound:.4g} would be, by median and MAD): "
        f"{why[threshold.rule]}."
    ]


def _forming_remarks(profile: ExpertProfile) -> list[str]:
    """What is formed jointly, whose part is unknown, and how many windows that rests on."""
    said = []
    for layer in sorted({row.block.address.layer for row in profile.blocks}):
        mine = [row for row in profile.blocks if row.block.address.layer == layer and row.formation]
        joint = [row for row in mine if row.formation is not None and row.formation.jointly]
        joint.sort(key=lambda row: -(row.formation.share if row.formation else 0.0))
        if joint:
            pair = " and ".join(_part(row) for row in joint[:2])
            said.append(
                f"L{layer} forms a massive activation jointly: no expert of it reaches half of the change, "
                f"the two largest are {pair}."
            )
        if any(row.formation is not None and row.formation.unknown for row in mine):
            said.append(
                f"L{layer} forms a massive activation, but which of its experts does is unknown: what lies "
                "between them and the residual in this architecture does more than scale their sum."
            )
    if profile.windows == 1 and any(row.formed is not None for row in profile.layers):
        said.append(
            "The text is one window, so what forms massive activations rests on one first token; shorter "
            "windows give more."
        )
    return said


def _part(row: BlockRow) -> str:
    share = 0.0 if row.formation is None else row.formation.share
    return f"{row.block.address} ({share:.0%})"


def _layer_remarks(profile: ExpertProfile, threshold: Threshold) -> list[str]:
    """Which layers L may lack, and why L is empty."""
    readable = {row.layer for row in profile.layers if row.readable}
    unknown = sorted({row.block.address.layer for row in profile.blocks} - readable)
    said = []
    if unknown:
        excluded = "L excludes them; choose the layers first75 or all"
        if threshold.rule == "forms":
            excluded = (
                "they form nothing that is known; choose the rule percentile and the layers first75 or all"
            )
        named = ", ".join(f"L{layer}" for layer in unknown[:4]) + ("…" if len(unknown) > 4 else "")
        said.append(
            f"In this architecture the FFN's contribution to the residual is unknown for {named}, "
            f"so {excluded} to include them."
        )
    if readable and not any(row.formed is not None for row in profile.layers):
        said.append(explain_no_massive_layer(profile))
    return said


def explain_no_massive_layer(profile: ExpertProfile) -> str:
    """Why no layer counts as forming massive activations."""
    peaks = [
        (peak.max_abs, row.layer, peak) for row in profile.layers for peak in (row.first, row.others) if peak
    ]
    largest, layer, peak = max(peaks, key=lambda found: found[0])
    times = largest / peak.median if peak.median else math.inf
    return (
        f"No layer forms massive activations: the largest |h| is {largest:.4g}, after layer {layer}, "
        f"{times:.4g} × the median there; massive means above {MASSIVE:g} and {TIMES_MEDIAN:g} × the "
        "median, and at least half of it from the layer's own FFN. So no "
        f"{'expert' if profile.experts else 'block'} is super."
    )
