"""Text output of `experts`."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from store.evidence import make_token_visible
from workbench.cli.shared.output import format_number, format_table
from workbench.experts.documents import describe_windows

SHOWN = 12
"""Rows of the expert and near-miss tables in text output; --json has all of them."""


def document_text(found: dict[str, Any]) -> str:
    """The table, the layers, the verdict and, if something was pruned, its effect."""
    rows = found["experts"] or found["blocks"]
    parts = [
        _blocks(rows),
        _layers(found["massive"]),
        _verdict(found),
        *(f"{remark}" for remark in found["remarks"]),
    ]
    if found["experts"] and found["blocks"]:
        parts.insert(1, "dense blocks, to which no rule applies:\n" + _blocks(found["blocks"]))
    if found["prune"] is not None:
        parts += [_prune(found["prune"]), *found["prune"]["remarks"]]
    return "\n\n".join(parts)


def _blocks(rows: Sequence[dict[str, Any]]) -> str:
    largest = sorted(rows, key=lambda row: (not row["super"], not row["forms"], -row["max_abs"]))[:SHOWN]
    cells = [
        (
            row["address"],
            format_number(row["max_abs"]),
            "–" if row["token"] is None else make_token_visible(row["token"]),
            *("–" if row[name] is None else str(row[name]) for name in ("position", "row", "column")),
            str(row["count"]),
            f"{row['sink_share']:.0%}",
            _forms(row),
            "super" if row["super"] else "",
        )
        for row in largest
    ]
    left = f"\n… and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    heads = ("address", "max |out|", "token", "position", "row", "column", "tokens", "of first tokens")
    return format_table((*heads, "forms", ""), cells) + left


def _forms(row: dict[str, Any]) -> str:
    """`100 %` of the windows, `jointly 40 %`, empty where it forms nothing."""
    if row["forms"] is None:
        return "unknown"
    if row["forms"]:
        return f"{row['forms']:.0%}"
    return f"jointly {row['formed_jointly']:.0%}" if row["formed_jointly"] else ""


def _layers(layers: Sequence[dict[str, Any]]) -> str:
    cells = [
        (
            f"L{row['layer']}",
            *(format_number(row[kind] and row[kind]["max_abs"]) for kind in ("first", "others")),
            format_number(row["others"] and row["others"]["median"]),
            "massive" if row["after"] else "",
            {True: "formed here", False: "", None: "unknown"}[row["formed_here"]],
        )
        for row in layers
    ]
    heads = ("after", "max |h| first token", "others", "median |h|", "after this layer", "in this layer")
    return format_table(heads, cells)


def _verdict(found: dict[str, Any]) -> str:
    threshold = found["threshold"]
    layers = ", ".join(f"L{layer}" for layer in threshold["layers"]) or "none"
    lines = [f"super: {', '.join(found['super']) or 'none'}", f"read: {describe_windows(found['windows'])}"]
    if threshold["rule"] == "forms":
        lines.append(f"rule forms: supplies half of a massive activation, in any window; layer in {layers}")
    else:
        lines.append(
            f"rule percentile: a > {format_number(threshold['percentile_value'])} "
            f"(P{threshold['percentile']:g}), a > {format_number(threshold['ratio_value'])} "
            f"({threshold['ratio']:g} of the largest), layer in {layers}"
        )
    near = [f"{miss['address']} (fails {miss['rule']})" for miss in found["near_misses"]]
    if near:
        more = f" and {len(near) - SHOWN} more" if len(near) > SHOWN else ""
        lines.append(f"near misses: {', '.join(near[:SHOWN])}{more}")
    return "\n".join(lines)


def _prune(prune: dict[str, Any]) -> str:
    rows = [("base", *_measures(prune["base"])), ("pruned", *_measures(prune["super"]))]
    for name, group in (("random", prune["random"]), ("same layers", prune["same_layer"])):
        if group:
            ranked = sorted(group, key=lambda one: one["delta_nll"])
            rows.append((f"{name}, median of {len(group)}", *_measures(ranked[len(ranked) // 2])))
            rows.append((f"{name}, largest", *_measures(ranked[-1])))
    head = f"pruned {', '.join(prune['pruned'])}; {prune['windows']} windows, {prune['targets']} tokens"
    shown = format_table(("", "perplexity", "95 %", "Δ NLL", "95 %", "mean sink decay"), rows)
    decay = ", ".join(
        f"L{layer} {format_number(value)}"
        for layer, value in enumerate(prune["sink_decay"])
        if value is not None
    )
    texts = [
        f"{name}{_format_repetition(one['repeated'])}: {prune['prompt']}|{one['text']}"
        for name, one in (("base", prune["base"]), ("pruned", prune["super"]))
    ]
    sinks = f"sink decay: {decay}" if decay else "sink decay: no head has a sink"
    return "\n\n".join([f"{head}\n{shown}", sinks, *texts])


def _format_repetition(share: float | None) -> str:
    return "" if share is None else f" ({share:.0%} of its 4-grams repeated)"


def _measures(one: dict[str, Any]) -> tuple[str, ...]:
    decays = [value for value in one["sink_decay"] if value is not None]

    def interval(ends: Sequence[float] | None) -> str:
        return "–" if ends is None else " to ".join(format_number(end) for end in ends)

    return (
        format_number(one["perplexity"]),
        interval(one["perplexity_interval"]),
        format_number(one["delta_nll"]),
        interval(one["delta_nll_interval"]),
        format_number(mean(decays)) if decays else "–",
    )
