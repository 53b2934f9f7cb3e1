"""Tables of sweeps, levers and concepts, as the command line prints them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from analysis.levers.levers import MOST_SETS
from analysis.levers.results import Lever
from analysis.reading.word_kinds import find_word_kind
from workbench.cli.shared.output import format_number, format_table
from workbench.levers.answers import LeverAnswer, SweepAnswer, write_lever

WIDTH = 100
"""Columns of a verdict."""


def format_sweep(found: SweepAnswer) -> str:
    """A row for each value, a column for each neuron, then the verdict."""
    names = [str(curve.address) for curve in found.curves]
    suffix = {"residual": "r", "max": "x"}.get(found.unit, "")
    rows = []
    for at, value in enumerate(found.values):
        means = [format_number(curve.points[at].mean) for curve in found.curves]
        band = () if found.controls is None else (_format_band(found.controls.band[at]),)
        rows.append((f"{value:.3g}{suffix}", *means, *band))
    columns = (
        "value",
        *names,
        *(() if found.controls is None else (f"{len(found.controls.neurons)} random",)),
    )
    base = f"P(“{found.word}”) without clamps: {format_number(sum(found.base) / len(found.base))}"
    return "\n\n".join([format_table(columns, rows), base, fill(found.verdict, WIDTH)])


def format_levers(found: LeverAnswer, limit: int) -> str:
    """The verdict, then a row for each lever."""
    columns = ("clamps", "selection", "held out", "other kind", "neutral KL", "controls")
    rows = [
        (
            _format_clamps(lever),
            format_number(lever.selection),
            format_number(lever.held_out),
            format_number(lever.specificity),
            format_number(lever.neutral_kl),
            format_number(lever.largest_control),
        )
        for lever in found.found.levers[:limit]
    ]
    facts = f"P without clamps {format_number(found.found.base)}; {found.seconds:.0f} s"
    return "\n\n".join([fill(found.verdict, WIDTH), *([format_table(columns, rows)] if rows else []), facts])


def list_concepts(found: Sequence[LeverAnswer]) -> dict[str, Any]:
    """As `concepts --json` prints it."""
    rows = [
        {
            "word": answer.word,
            "kind": find_word_kind(answer.word).name,
            "single": answer.found.single and write_lever(answer.found.single),
            "set": answer.found.best_set and write_lever(answer.found.best_set),
            "steerable": answer.found.steerable,
            "seconds": answer.seconds,
        }
        for answer in found
    ]
    single_ones = sum(one.found.single is not None and one.found.single.steerable for one in found)
    return {
        "steerable": {
            "single": single_ones,
            "set": sum(one.found.steerable for one in found),
            "of": len(found),
        },
        "words": rows,
    }


def format_concepts(found: Sequence[LeverAnswer], seconds: float) -> str:
    """A row for each word, then how many are steerable. seconds: of this call."""
    columns = ("word", "base", "one neuron", "held out", "set", "held out", "control", "other kind", "s", "")
    rows = []
    for answer in found:
        single, best = answer.found.single, answer.found.best_set
        rows.append(
            (
                answer.word,
                format_number(answer.found.base),
                "–" if single is None else _format_clamps(single),
                "–" if single is None else format_number(single.held_out),
                "–" if best is None else _format_clamps(best),
                "–" if best is None else format_number(best.held_out),
                "–" if best is None else format_number(best.largest_control),
                "–" if best is None else format_number(best.specificity),
                f"{answer.seconds:.0f}",
                "steerable" if answer.found.steerable else "",
            )
        )
    steered = sum(answer.found.steerable for answer in found)
    summary = f"{steered} of {len(found)} words steerable by at most {MOST_SETS} neurons; {seconds:.0f} s"
    return "\n\n".join([format_table(columns, rows), summary])


def _format_band(band: tuple[float, float]) -> str:
    return f"{format_number(band[0])} to {format_number(band[1])}"


def _format_clamps(lever: Lever) -> str:
    return " ".join(f"{clamp.address}:{clamp.value or 0:.3g}r" for clamp in lever.clamps)
