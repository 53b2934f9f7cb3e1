"""JSON documents of `experts --json`: a profile, its verdict and a pruning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.running.prompts import decode_tokens
from analysis.super_experts.criterion import Threshold
from analysis.super_experts.profile import (
    BlockRow,
    ExpertProfile,
    FormedActivation,
    LayerRow,
    ResidualPeak,
    TokenPlace,
)
from analysis.super_experts.verdict import SuperExpertVerdict
from workbench.experts.pruning import PruneEffect, PruneReport

Document = dict[str, Any]


def profile_document(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> Document:
    """`experts`, `blocks` (dense ones), `massive`, and the verdict of a criterion."""
    supers = {row.block.address for row in verdict.supers}

    def rows(found: tuple[BlockRow, ...]) -> list[Document]:
        return [block_document(loaded, row) | {"super": row.block.address in supers} for row in found]

    return {
        "tokens": profile.tokens,
        "threshold": threshold_document(verdict.threshold),
        "super": [str(row.block.address) for row in verdict.supers],
        "near_misses": [
            {"address": str(miss.row.block.address), "rule": miss.rule, "max_abs": miss.row.max_abs}
            for miss in verdict.near_misses
        ],
        "remarks": list(verdict.remarks),
        "experts": rows(profile.experts),
        "blocks": rows(profile.dense),
        "massive": [layer_document(loaded, row) for row in profile.layers],
    }


def threshold_document(threshold: Threshold) -> Document:
    """The thresholds in force."""
    return asdict(threshold) | {"layers": list(threshold.layers)}


def block_document(loaded: LoadedModel, row: BlockRow) -> Document:
    """One expert or dense block; null if it saw no token."""
    address = row.block.address
    return {
        "address": str(address),
        "layer": address.layer,
        "expert": address.expert,
        "shared": address.shared,
        "max_abs": row.max_abs,
        "first_routed": row.first_routed,
        **_place(loaded, row.place),
        "count": row.count,
        "row": row.row,
        "column": row.column,
        "weight": super_weight(loaded, row),
    }


def super_weight(loaded: LoadedModel, row: BlockRow) -> float | None:
    """The entry of the down projection at the block's row and column."""
    if row.row is None or row.column is None:
        return None
    return float(row.block.down.vectors(loaded.parameters)[row.column, row.row])


def layer_document(loaded: LoadedModel, row: LayerRow) -> Document:
    """The residual after one layer; `formed` is the massive activation that its own FFN supplies, or null."""
    return {
        "layer": row.layer,
        "first": _peak(loaded, row.first),
        "others": _peak(loaded, row.others),
        "massive": row.formed is not None if row.readable else None,
        "formed": _formed_document(loaded, row.formed),
    }


def token_at(loaded: LoadedModel, place: TokenPlace) -> str:
    """The text of the token at a place."""
    return decode_tokens(loaded, [place.token_id])[0]


def _peak(loaded: LoadedModel, peak: ResidualPeak | None) -> Document | None:
    if peak is None:
        return None
    sizes = {"max_abs": peak.max_abs, "median": peak.median, "dimension": peak.dimension}
    return sizes | _place(loaded, peak.place)


def _formed_document(loaded: LoadedModel, formed: FormedActivation | None) -> Document | None:
    if formed is None:
        return None
    sizes = {"value": formed.value, "supplied": formed.supplied, "dimension": formed.dimension}
    return sizes | _place(loaded, formed.place)


def _place(loaded: LoadedModel, place: TokenPlace | None) -> Document:
    if place is None:
        return {"token": None, "token_id": None, "position": None, "window": None}
    return {
        "token": token_at(loaded, place),
        "token_id": place.token_id,
        "position": place.position,
        "window": place.window,
    }


def prune_document(report: PruneReport) -> Document:
    """The effect of pruning; every set with its Δ mean NLL, and base and pruned sink masses by layer."""
    base, pruned = report.base, report.pruned
    return {
        "pruned": list(pruned.parts),
        "windows": report.windows,
        "targets": report.targets,
        "prompt": report.prompt,
        "base": _set_document(base),
        "super": _set_document(pruned),
        "random": [_set_document(one) for one in report.random],
        "same_layer": [_set_document(one) for one in report.same_layer],
        "sink_mass": [
            {
                "layer": layer,
                "base": _finite_or_null(base.sinks.masses[layer]),
                "super": _finite_or_null(pruned.sinks.masses[layer]),
                "even": _finite_or_null(base.sinks.even[layer]),
                "learned": _finite_or_null(base.sinks.learned_masses[layer]),
                "heads_with_sink": pruned.heads[layer],
            }
            for layer in range(len(base.sinks.mass))
            if base.sinks.queries[layer].any()
        ],
        "sink_decay": list(pruned.decay),
        "remarks": list(report.remarks),
    }


def _finite_or_null(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]


def _set_document(one: PruneEffect) -> Document:
    return {
        "experts": list(one.parts),
        "perplexity": one.perplexity.value,
        "perplexity_interval": one.perplexity.interval,
        "delta_nll": one.effect.value,
        "delta_nll_interval": one.effect.interval,
        "sink_decay": list(one.decay),
        "text": None if one.sample is None else one.sample.text,
        "repeated": None if one.sample is None else one.sample.repeated,
    }
