"""Caveats of a verdict on super experts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis.super_experts.criterion import Array, Threshold
from analysis.super_experts.profile import BlockRow, ExpertProfile
from analysis.super_experts.residuals import MASSIVE, TIMES_MEDIAN


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
    if threshold.layers_rule == "massive":
        said += _layer_remarks(profile, threshold)
    inside = layers <= max(threshold.layers) if threshold.layers else np.ones(len(layers), bool)
    bound = threshold.small_value
    if threshold.rule == "percentile" and bound is not None and sizes[inside].max() <= bound:
        said.append(
            f"The largest a, {sizes[inside].max():.4g}, is no outlier ({bound:.4g} would be): a percentile "
            "always selects one."
        )
    top = rows[int(sizes.argmax())].block.address
    if threshold.layers and top.layer not in threshold.layers:
        said.append(
            f"The largest a of all, {sizes.max():.4g}, is that of {top}, whose layer is not in L: the last "
            "layers often have the largest outputs without forming a massive activation."
        )
    return tuple(said)


def _layer_remarks(profile: ExpertProfile, threshold: Threshold) -> list[str]:
    """Which layers L may lack, and why L is empty."""
    readable = {row.layer for row in profile.layers if row.readable}
    unknown = sorted({row.block.address.layer for row in profile.blocks} - readable)
    said = []
    if unknown:
        named = ", ".join(f"L{layer}" for layer in unknown[:4]) + ("…" if len(unknown) > 4 else "")
        said.append(
            f"In this architecture the FFN's contribution to the residual is unknown for {named}, "
            "so L excludes them; choose the layers first75 or all to include them."
        )
    if readable and not threshold.layers:
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
        "median, and at least half of it from the layer's own FFN. So no expert is super."
    )
