"""Named values as bars: the tokens of a neuron, what a saved model changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import NEGATIVE, POSITIVE, apply_theme

ROW_PIXELS, FRAME_PIXELS = 24, 70


@dataclass(frozen=True)
class NamedBars:
    """n bars, the first on top. name, value (n,): names as displayed. measure: what the values are."""

    name: Sequence[str]
    value: Sequence[float]
    measure: str

    def __post_init__(self) -> None:
        if len(self.name) != len(self.value):
            raise ValueError("NamedBars' sequences must both have one entry for each bar")


def bars_figure(bars: NamedBars) -> go.Figure:
    """A row for each bar: amber from 0 upwards, blue below."""
    rows = list(range(len(bars.name)))
    figure = go.Figure(
        go.Bar(
            x=list(bars.value),
            y=rows,
            orientation="h",
            marker={"color": [POSITIVE if value >= 0 else NEGATIVE for value in bars.value]},
            customdata=[as_figure_text(name) for name in bars.name],
            hovertemplate=f"%{{customdata}}: %{{x:.4g}}<extra>{as_figure_text(bars.measure)}</extra>",
            showlegend=False,
        )
    )
    figure.update_xaxes(title=as_figure_text(bars.measure), showgrid=False)
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[as_figure_text(name) for name in bars.name],
        autorange="reversed",
        showgrid=False,
        automargin=True,
    )
    return apply_theme(figure, height=ROW_PIXELS * len(rows) + FRAME_PIXELS)
