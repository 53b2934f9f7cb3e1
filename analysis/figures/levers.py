"""Figure of levers: the effect of each, beside what it is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import CATEGORIES, LEGEND, NEGATIVE, NEUTRAL, POSITIVE, apply_theme

ROW_HEIGHT, FRAME_HEIGHT = 30, 100


@dataclass(frozen=True)
class LeverBars:
    """Levers by rank, and mean P(word) of each in [0, 1]: on held-out prompts, of the best random set given
    the same search, on the prompts it was chosen on, and where a word of another kind is due. None: not read.
    """

    names: Sequence[str]
    held_out: Sequence[float | None]
    control: Sequence[float | None]
    selection: Sequence[float | None]
    other: Sequence[float | None]

    def __post_init__(self) -> None:
        measured = (self.held_out, self.control, self.selection, self.other)
        if {len(one) for one in measured} != {len(self.names)}:
            raise ValueError("LeverBars' sequences must all have one entry for each lever")


def lever_figure(word: str, bars: LeverBars) -> go.Figure:
    """One row per lever, best on top: a bar to P(word) on held-out prompts; marks for the best random set,
    the prompts it was chosen on, and prompts where a word of another kind is due.
    """
    rows = list(range(len(bars.names)))
    names = [as_figure_text(name) for name in bars.names]
    figure = go.Figure()
    figure.add_bar(
        x=list(bars.held_out),
        y=rows,
        name="held-out prompts",
        orientation="h",
        width=0.55,
        marker={"color": POSITIVE},
        customdata=names,
        hovertemplate="%{customdata}: %{x:.2%}<extra>held-out prompts</extra>",
    )
    for name, values, marker in (
        ("prompts it was chosen on", bars.selection, {"color": NEUTRAL, "symbol": "circle-open", "size": 10}),
        ("best random neurons", bars.control, {"color": NEGATIVE, "symbol": "diamond", "size": 10}),
        ("another kind of word due", bars.other, {"color": CATEGORIES[3], "symbol": "x", "size": 9}),
    ):
        figure.add_scatter(
            x=list(values),
            y=rows,
            name=name,
            mode="markers",
            marker=marker,
            customdata=names,
            hovertemplate=f"%{{customdata}}: %{{x:.2%}}<extra>{name}</extra>",
        )
    apply_theme(figure, height=FRAME_HEIGHT + ROW_HEIGHT * len(rows))
    figure.update_xaxes(
        title=f"P({as_figure_text(word)})", tickformat="~%", range=[-0.02, 1.03], zeroline=False
    )
    figure.update_yaxes(
        tickvals=rows,
        ticktext=names,
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    return figure.update_layout(legend=LEGEND, margin={"t": 28})
