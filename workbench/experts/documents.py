"""JSON documents of `experts --json`: a profile, its verdict and a pruning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.running.calibration import read_prefix_tokens
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
from store.evidence import make_token_visible
from workbench.experts.reports import PruneEffect, PruneReport

Document = dict[str, Any]


def profile_document(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> Document:
    """`experts`, `blocks` (dense ones), `massive`, and the verdict of a criterion."""
    supers = {row.block.address for row in verdict.supers}

    def rows(found: tuple[BlockRow, ...]) -> list[Document]:
        return [
            block_document(loaded, row, profile.windows) | {"super": row.block.address in supers}
            for row in found
        ]

    return {
        "tokens": profile.tokens,
        "windows": windows_document(loaded, profile),
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


def list_judged_rows(profile: ExpertProfile, verdict: SuperExpertVerdict) -> list[tuple[BlockRow, str]]:
    """The rows worth a look, each with the verdict on it: super ones, near misses with the rule that excluded
    each, and what forms a massive activation but is neither.
    """
    rows = [(row, "super") for row in verdict.supers]
    rows += [(miss.row, f"fails {miss.rule}") for miss in verdict.near_misses]
    named = {row.block.address for row, _ in rows}
    form = [row for row in profile.blocks if row.formation is not None and row.formation.formed]
    return rows + [(row, "forms") for row in form if row.block.address not in named]


def windows_document(loaded: LoadedModel, profile: ExpertProfile) -> Document:
    """How many windows were read, tokens of the longest, the text of the token that all begin with, and
    whether that is the one the tokenizer puts before a text.
    """
    begins = None if profile.begins is None else decode_tokens(loaded, [profile.begins])[0]
    prefix = read_prefix_tokens(loaded)
    return {
        "count": profile.windows,
        "length": profile.length,
        "begins": begins,
        "bos": bool(prefix) and profile.begins == prefix[0],
    }


def describe_windows(read: Document) -> str:
    """`30 windows of at most 256 tokens, each behind <bos>`. read: as windows_document."""
    count = "1 window" if read["count"] == 1 else f"{read['count']:,} windows"
    begin = f"each behind {make_token_visible(read['begins'])}" if read["bos"] else "no token before them"
    return f"{count} of at most {read['length']:,} tokens, {begin}"


def threshold_document(threshold: Threshold) -> Document:
    """The thresholds in force."""
    return asdict(threshold) | {"layers": list(threshold.layers)}


def block_document(loaded: LoadedModel, row: BlockRow, windows: int) -> Document:
    """One expert or dense block; null if it saw no token, or if it is unknown whether it forms anything.

    forms, formed_jointly, sink_share: shares of the windows, in [0, 1].
    """
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
        **_formation_document(row, windows),
        "sink_share": row.sink / windows,
    }


def _formation_document(row: BlockRow, windows: int) -> Document:
    """Shares of the windows in which a block forms a massive activation, and its largest part in one."""
    found = row.formation
    unknown = found is None or (found.unknown > 0 and not found.formed)
    return {
        "forms": None if found is None or unknown else found.formed / windows,
        "formed_jointly": None if found is None or unknown else found.jointly / windows,
        "formed_share": found.share if found is not None and found.share else None,
        "formed_value": found.added if found is not None and found.share else None,
        "formed_row": None if found is None else found.dimension,
        "formed_column": None if found is None else found.column,
    }


def super_weight(loaded: LoadedModel, row: BlockRow) -> float | None:
    """The entry of the down projection at the block's row and column."""
    if row.row is None or row.column is None:
        return None
    return float(row.block.down.vectors(loaded.parameters)[row.column, row.row])


def layer_document(loaded: LoadedModel, row: LayerRow) -> Document:
    """The residual after one layer: whether something is massive after it, whether its own FFN formed that
    (null: unknown), and `formed`, the largest that it did.
    """
    return {
        "layer": row.layer,
        "after": row.massive > 0,
        "formed_here": row.formed is not None if row.readable else None,
        "windows": row.massive,
        "first": _peak(loaded, row.first),
        "others": _peak(loaded, row.others),
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
