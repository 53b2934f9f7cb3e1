"""Text output of `experts`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from analysis.running.perplexity import Estimate
from store.evidence import make_token_visible
from workbench.cli.shared.output import format_number, format_table
from workbench.experts.answers import ProfileAnswer, ProfiledBlock, ProfiledLayer
from workbench.experts.reports import PruneEffect, PruneReport

SHOWN = 12
"""Rows of the expert and near-miss tables in text output; --json has all of them."""


def format_experts(found: ProfileAnswer, report: PruneReport | None) -> str:
    """The table, the layers, the verdict and, if something was pruned, its effect."""
    parts = [
        _format_blocks(found.experts or found.blocks),
        _format_layers(found.massive),
        _format_verdict(found),
        *found.remarks,
    ]
    if found.experts and found.blocks:
        parts.insert(1, "dense blocks, to which no rule applies:\n" + _format_blocks(found.blocks))
    if report is not None:
        parts += [_format_report(report), *report.remarks]
    return "\n\n".join(parts)


def _format_blocks(rows: Sequence[ProfiledBlock]) -> str:
    largest = sorted(rows, key=lambda row: (not row.super, not row.forms, -row.max_abs))[:SHOWN]
    cells = [
        (
            row.address,
            format_number(row.max_abs),
            "–" if row.token is None else make_token_visible(row.token),
            *("–" if value is None else str(value) for value in (row.position, row.row, row.column)),
            str(row.count),
            f"{row.sink_share:.0%}",
            _format_forms(row),
            "super" if row.super else "",
        )
        for row in largest
    ]
    left = f"\n… and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    heads = ("address", "max |out|", "token", "position", "row", "column", "tokens", "of first tokens")
    return format_table((*heads, "forms", ""), cells) + left


def _format_forms(row: ProfiledBlock) -> str:
    """`100 %` of the windows, `jointly 40 %`, empty where it forms nothing."""
    if row.forms is None:
        return "unknown"
    if row.forms:
        return f"{row.forms:.0%}"
    return f"jointly {row.formed_jointly:.0%}" if row.formed_jointly else ""


def _format_layers(layers: Sequence[ProfiledLayer]) -> str:
    cells = [
        (
            f"L{row.layer}",
            format_number(None if row.first is None else row.first.max_abs),
            format_number(None if row.others is None else row.others.max_abs),
            format_number(None if row.others is None else row.others.median),
            "massive" if row.after else "",
            {True: "formed here", False: "", None: "unknown"}[row.formed_here],
        )
        for row in layers
    ]
    heads = ("after", "max |h| first token", "others", "median |h|", "after this layer", "in this layer")
    return format_table(heads, cells)


def _format_verdict(found: ProfileAnswer) -> str:
    threshold = found.threshold
    layers = ", ".join(f"L{layer}" for layer in threshold.layers) or "none"
    lines = [f"super: {', '.join(found.super) or 'none'}", f"read: {found.windows}"]
    if threshold.rule == "forms":
        lines.append(f"rule forms: supplies half of a massive activation, in any window; layer in {layers}")
    else:
        lines.append(
            f"rule percentile: a > {format_number(threshold.percentile_value)} "
            f"(P{threshold.percentile:g}), a > {format_number(threshold.ratio_value)} "
            f"({threshold.ratio:g} of the largest), layer in {layers}"
        )
    near = [f"{miss.address} (fails {miss.rule})" for miss in found.near_misses]
    if near:
        more = f" and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
        lines.append(f"near misses: {', '.join(near[:SHOWN])}{more}")
    return "\n".join(lines)


def _format_report(report: PruneReport) -> str:
    rows = [("base", *_format_measures(report.base)), ("pruned", *_format_measures(report.pruned))]
    for name, group in (("random", report.random), ("same layers", report.same_layer)):
        if group:
            ranked = sorted(group, key=lambda one: one.effect.value)
            rows.append((f"{name}, median of {len(group)}", *_format_measures(ranked[len(ranked) // 2])))
            rows.append((f"{name}, largest", *_format_measures(ranked[-1])))
    pruned = report.pruned
    head = f"pruned {', '.join(pruned.parts)}; {report.windows} windows, {report.targets} tokens"
    shown = format_table(("", "perplexity", "95 %", "Δ NLL", "95 %", "mean sink decay"), rows)
    decay = ", ".join(
        f"L{layer} {format_number(value)}" for layer, value in enumerate(pruned.decay) if value is not None
    )
    texts = [
        f"{name}{_format_repetition(one.repeated)}: {report.prompt}|{one.text}"
        for name, one in (("base", report.base.sample), ("pruned", pruned.sample))
        if one is not None
    ]
    sinks = f"sink decay: {decay}" if decay else "sink decay: no head has a sink"
    return "\n\n".join([f"{head}\n{shown}", sinks, *texts])


def _format_repetition(share: float | None) -> str:
    return "" if share is None else f" ({share:.0%} of its 4-grams repeated)"


def _format_measures(one: PruneEffect) -> tuple[str, ...]:
    decays = [value for value in one.decay if value is not None]
    return (
        format_number(one.perplexity.value),
        _format_interval(one.perplexity),
        format_number(one.effect.value),
        _format_interval(one.effect),
        format_number(mean(decays)) if decays else "–",
    )


def _format_interval(one: Estimate) -> str:
    return "–" if one.interval is None else " to ".join(format_number(end) for end in one.interval)
