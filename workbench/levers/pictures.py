"""Evidence of a word as the figures draw it: on pages, and inside reports."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.figures.doses import DoseLines
from analysis.figures.levers import LeverBars
from analysis.levers.neutral_effects import BOUND
from store.word_evidence import DoseFacts, WordEvidence

SHOWN = 10
"""Levers drawn; the table holds them all."""
HOW_TO_READ_LEVERS = (
    "Best first, as the prompts they were chosen on have it. Bar: P on held-out prompts, which is what "
    "counts. A bar far beyond the diamond is due to these neurons; a cross near the bar's end means that "
    "they force the word anywhere."
)
HOW_TO_READ_DOSES = (
    "Thin lines: each prompt. Grey: the range of random neurons of its block that write as much. Amber: the "
    f"text repeats itself, or neutral text changes by more than {BOUND:g} nats a token."
)


def list_doses(said: WordEvidence, neuron: str) -> list[DoseFacts]:
    """The doses of one neuron whose value is known, by value."""
    known = [dose for dose in said.doses if dose.neuron == neuron and dose.value is not None]
    return sorted(known, key=lambda dose: dose.value or 0.0)


def make_dose_lines(said: WordEvidence, doses: Sequence[DoseFacts]) -> DoseLines:
    """Doses as a figure draws them."""
    prompts = min((len(dose.probability) for dose in doses), default=0)
    banded = all(dose.low is not None and dose.high is not None for dose in doses)
    return DoseLines(
        values=[dose.value or 0.0 for dose in doses],
        mean=[dose.mean for dose in doses],
        probability=[[dose.probability[at] for dose in doses] for at in range(prompts)],
        base=said.base or 0.0,
        band=[(dose.low or 0.0, dose.high or 0.0) for dose in doses] if banded else [],
        repeats=[bool(dose.collapse) for dose in doses],
        spoiled=[bool(dose.collapse) or (dose.neutral_kl or 0.0) > BOUND for dose in doses],
        kl=[dose.kl for dose in doses],
        neutral_kl=[dose.neutral_kl for dose in doses],
    )


def make_lever_bars(said: WordEvidence) -> LeverBars:
    """The best levers as a figure draws them."""
    best = said.levers[:SHOWN]
    return LeverBars(
        [lever.name for lever in best],
        [lever.held_out for lever in best],
        [lever.control for lever in best],
        [lever.selection for lever in best],
        [lever.other for lever in best],
    )
