"""Interactive charts of findings for the HTML report: levers, dose curves, pruning, unlearning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.figures.doses import dose_figure
from analysis.figures.embedding import embed_figure, read_library
from analysis.figures.levers import lever_figure
from analysis.figures.pruning import effect_figure
from analysis.figures.theme import Figure
from store import Finding
from store.evidence import EvidenceView, read_evidence
from store.report_charts import Chart, ReportCharts
from workbench.levers.pictures import (
    HOW_TO_READ_DOSES,
    HOW_TO_READ_LEVERS,
    list_doses,
    make_dose_lines,
    make_lever_bars,
)

MOST_CURVES = 12
"""Dose curves drawn of one finding."""


def make_report_charts(findings: Sequence[Finding]) -> ReportCharts:
    """The charts of each finding that has some, with plotly's library once."""
    drawn = {
        finding.id: [
            Chart(one.title, embed_figure(one.figure), one.caption)
            for one in draw_finding(read_evidence(finding.evidence))
        ]
        for finding in findings
    }
    drawn = {key: charts for key, charts in drawn.items() if charts}
    return ReportCharts(read_library(), drawn) if drawn else ReportCharts()


def group_effects(shown: EvidenceView) -> dict[str, list[float]]:
    """Δ mean NLL of a pruning's sets by group, the pruned set first; empty for other findings."""
    groups: dict[str, list[float]] = {}
    for one in shown.pruned_sets:
        if one.delta_nll is not None and one.group != "base":
            groups.setdefault(one.group, []).append(one.delta_nll)
    return groups


@dataclass(frozen=True)
class DrawnChart:
    """A chart of a finding: its title, and how to read it."""

    title: str
    figure: Figure
    caption: str


def draw_finding(shown: EvidenceView) -> Iterator[DrawnChart]:
    """The charts of a finding: levers, dose curves, the effect of a pruning."""
    said = shown.said
    if said.levers:
        figure = lever_figure(said.word, make_lever_bars(said))
        yield DrawnChart("Levers", figure, HOW_TO_READ_LEVERS)
    for neuron in list(dict.fromkeys(dose.neuron for dose in said.doses))[:MOST_CURVES]:
        lines = make_dose_lines(said, list_doses(said, neuron))
        if lines.values:
            figure = dose_figure(said.word, lines, unit=said.unit)
            yield DrawnChart(f"Dose curve of {neuron}", figure, HOW_TO_READ_DOSES)
    groups = group_effects(shown)
    if groups:
        caption = "Change of the mean NLL on held-out text; each grey dot is a random set of as many experts."
        yield DrawnChart("Effect of pruning", effect_figure(groups), caption)
