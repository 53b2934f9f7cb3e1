"""What pruning did, in plain sentences that claim no more than the controls allow."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.experts.reports import PruneEffect, PruneReport


def stands_out(report: PruneReport) -> bool | None:
    """Whether the loss exceeds that of every random set; None where it is not above zero for certain, or
    where there is no random set.
    """
    if not _is_loss(report) or not (report.random or report.same_layer):
        return None
    return report.pruned.effect.value > _largest((*report.random, *report.same_layer))


def describe_pruning(report: PruneReport) -> str:
    """Sentences: the loss with its interval, the loss by random sets, and what became of attention sinks."""
    return " ".join(
        filter(None, (_describe_loss(report), _describe_controls(report), _describe_sinks(report)))
    )


def propose_pruning_title(report: PruneReport) -> str:
    """`Without L1.E9: perplexity 5.65 → 5.91; without random sets at most 5.94`."""
    before, after = report.base.perplexity.value, report.pruned.perplexity.value
    title = f"Without {_name(report)}: perplexity {before:.3g} → {after:.3g}"
    drawn = (*report.random, *report.same_layer)
    if not drawn:
        return title
    worst = max(one.perplexity.value for one in drawn)
    return f"{title}; without random sets at most {worst:.3g}"


def _describe_loss(report: PruneReport) -> str:
    base, pruned, effect = report.base.perplexity.value, report.pruned.perplexity.value, report.pruned.effect
    interval = effect.interval
    ends = "no interval" if interval is None else f"95 % {_signed(interval[0])} to {_signed(interval[1])}"
    numbers = f"perplexity {base:.3g} → {pruned:.3g} ({_signed(effect.value)} nats a token, {ends})"
    if _is_loss(report):
        return f"Without {_name(report)} the model predicts held-out text worse: {numbers}."
    if interval is not None and interval[1] < 0:
        return f"Without {_name(report)} the model predicts held-out text better: {numbers}."
    return f"Without {_name(report)} no loss is measured for certain: {numbers}."


def _describe_controls(report: PruneReport) -> str:
    said = []
    for drawn, where in ((report.random, "drawn from all layers"), (report.same_layer, "of the same layers")):
        if drawn:
            more = report.pruned.effect.value > _largest(drawn)
            sets = _count_sets(drawn)
            said.append(
                f"{'more' if more else 'not more'} than without {sets} {where} (at most "
                f"{_signed(_largest(drawn))})"
            )
    if not said:
        return "No random sets were pruned, so chance is not excluded."
    joined = " and ".join(said) if len({one.startswith("not") for one in said}) == 1 else ", but ".join(said)
    return f"That is {joined}."


def _count_sets(drawn: Sequence[PruneEffect]) -> str:
    """`each of 20 random sets`; a set that was drawn again is no further evidence."""
    distinct = len({frozenset(one.parts) for one in drawn})
    again = f" ({len(drawn)} draws)" if distinct < len(drawn) else ""
    return f"the random set{again}" if distinct == 1 else f"each of {distinct} random sets{again}"


def _describe_sinks(report: PruneReport) -> str:
    decay = _mean(report.pruned.decay)
    if decay is None:
        return ""
    others = [
        value for one in (*report.random, *report.same_layer) if (value := _mean(one.decay)) is not None
    ]
    beside = f"; without random sets at most {100 * max(0.0, *others):.1f} %" if others else ""
    verb = f"lose {100 * decay:.0f} %" if decay >= 0 else f"gain {-100 * decay:.0f} %"
    return f"The heads that rest on the first token {verb} of that attention{beside}."


def _is_loss(report: PruneReport) -> bool:
    interval = report.pruned.effect.interval
    return interval is not None and interval[0] > 0


def _largest(drawn: Sequence[PruneEffect]) -> float:
    return max(one.effect.value for one in drawn)


def _mean(decay: Sequence[float | None]) -> float | None:
    known = [value for value in decay if value is not None]
    return sum(known) / len(known) if known else None


def _name(report: PruneReport) -> str:
    return ", ".join(report.pruned.parts)


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")
