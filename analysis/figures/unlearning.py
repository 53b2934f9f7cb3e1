"""Figures of unlearning: the matrix of drops, the frontier, abstention over α, other forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import CATEGORIES, NEUTRAL, POSITIVE, READABLE, apply_theme

Array = np.ndarray[Any, Any]
Pair = tuple[float, float]
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
ROW_PIXELS, FRAME_PIXELS, PLAIN = 52, 70, 340


@dataclass(frozen=True)
class DropMatrix:
    """Skills × methods. drop (s, m): relative drops, NaN if undefined; text (s, m): lines written into the
    cells, hover (s, m): hover text.
    """

    skills: Sequence[str]
    methods: Sequence[str]
    drop: Array
    text: Sequence[Sequence[str]]
    hover: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        shape = (len(self.skills), len(self.methods))
        cells = [(len(rows), len(row)) for rows in (self.text, self.hover) for row in rows]
        if self.drop.shape != shape or any(cell != shape for cell in cells):
            raise ValueError(f"a DropMatrix of {shape} needs as many drops, texts and hovers")


def drop_matrix_figure(matrix: DropMatrix) -> go.Figure:
    """Rows of skills, the forget skill on top; the stronger the colour, the larger the drop. Gains count as
    0.
    """
    rows, columns = list(range(len(matrix.skills))), list(range(len(matrix.methods)))
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=rows,
            z=np.clip(matrix.drop, 0, 1),
            customdata=np.array(matrix.hover, dtype=object),
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=True,
            colorscale=READABLE,
            zmin=0,
            zmax=1,
            xgap=3,
            ygap=3,
            colorbar={"title": {"text": "drop", "side": "right"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    figure.add_scatter(
        x=[column for _ in rows for column in columns],
        y=[row for row in rows for _ in columns],
        text=[cell for row in matrix.text for cell in row],
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    figure.update_xaxes(
        tickvals=columns,
        ticktext=[as_figure_text(name) for name in matrix.methods],
        side="top",
        showgrid=False,
        zeroline=False,
        range=[-0.5, len(columns) - 0.5],
    )
    figure.update_yaxes(
        tickvals=rows,
        ticktext=[as_figure_text(name) for name in matrix.skills],
        showgrid=False,
        zeroline=False,
        automargin=True,
        range=[len(rows) - 0.5, -0.5],
    )
    return apply_theme(figure, height=ROW_PIXELS * len(rows) + FRAME_PIXELS)


@dataclass(frozen=True)
class Frontier:
    """One method. sweep: (worst retain drop, forget drop) of each candidate on validation, labels: their
    names; test: the chosen one on the test, None if it has no drop.
    """

    method: str
    sweep: Sequence[Pair]
    labels: Sequence[str]
    test: Pair | None

    def __post_init__(self) -> None:
        if len(self.sweep) != len(self.labels):
            raise ValueError(f"{len(self.sweep)} points, {len(self.labels)} labels")


def frontier_figure(methods: Sequence[Frontier], *, goal: Pair) -> go.Figure:
    """y: forget drop; x: worst retain drop. goal: (largest retain drop, smallest forget drop)."""
    figure = go.Figure()
    for at, one in enumerate(methods):
        colour, symbol = CATEGORIES[at % len(CATEGORIES)], SYMBOLS[at % len(SYMBOLS)]
        name, order = as_figure_text(one.method), sorted(range(len(one.sweep)), key=lambda i: one.sweep[i])
        figure.add_scatter(
            x=[one.sweep[i][0] for i in order],
            y=[one.sweep[i][1] for i in order],
            text=[as_figure_text(one.labels[i]) for i in order],
            name=f"{name}, tried",
            mode="markers",
            marker={"color": colour, "symbol": f"{symbol}-open", "size": 7},
            hovertemplate=f"%{{text}}: %{{y:.3f}}, worst retain %{{x:.3f}}<extra>{name}</extra>",
        )
        if one.test is not None:
            figure.add_scatter(
                x=[one.test[0]],
                y=[one.test[1]],
                name=f"{name}, test",
                mode="markers",
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": 16,
                    "line": {"width": 2, "color": NEUTRAL},
                },
                hovertemplate=f"test: %{{y:.3f}}, worst retain %{{x:.3f}}<extra>{name}</extra>",
            )
    every = [point for one in methods for point in (*one.sweep, *([one.test] if one.test else []))]
    left, right = min([-0.03, *(x - 0.02 for x, _ in every)]), max([0.3, *(x + 0.03 for x, _ in every)])
    low = min([-0.05, *(y - 0.05 for _, y in every)])
    _add_goal(figure, goal, left)
    figure.update_xaxes(title="worst retain drop", range=[left, right], zeroline=True)
    figure.update_yaxes(title="forget drop", range=[low, 1.06], zeroline=True)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return apply_theme(figure, height=PLAIN + 60)


def _add_goal(figure: go.Figure, goal: Pair, left: float) -> None:
    figure.add_shape(
        type="rect",
        x0=left,
        x1=goal[0],
        y0=goal[1],
        y1=1.06,
        line={"color": POSITIVE, "dash": "dot", "width": 1.5},
        fillcolor="rgba(213,120,0,0.1)",
        layer="below",
    )
    figure.add_annotation(
        x=goal[0], y=1.06, text="the goal", showarrow=False, xanchor="left", yanchor="top", xshift=4
    )


@dataclass(frozen=True)
class FormDrop:
    """The forget skill in one form: its relative drop with a 95 % interval, None if unknown."""

    way: str
    drop: float
    interval: Pair | None


def ways_figure(methods: Mapping[str, Sequence[FormDrop]], *, goal: float) -> go.Figure:
    """Relative drop by form: a row per form, a mark per method with its interval."""
    figure = go.Figure()
    ways = list(dict.fromkeys(one.way for found in methods.values() for one in found))
    for at, (name, found) in enumerate(methods.items()):
        colour, symbol = CATEGORIES[at % len(CATEGORIES)], SYMBOLS[at % len(SYMBOLS)]
        spans = [one.interval or (one.drop, one.drop) for one in found]
        shift = 0.2 * (at - (len(methods) - 1) / 2)
        figure.add_scatter(
            x=[one.drop for one in found],
            y=[ways.index(one.way) + shift for one in found],
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [max(0.0, high - one.drop) for one, (_, high) in zip(found, spans, strict=True)],
                "arrayminus": [max(0.0, one.drop - low) for one, (low, _) in zip(found, spans, strict=True)],
                "thickness": 1.5,
                "width": 4,
            },
            text=[as_figure_text(one.way) for one in found],
            name=as_figure_text(name),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 11},
            hovertemplate="%{text}: %{x:.3f}",
        )
    figure.add_vline(goal, line_color=NEUTRAL, line_dash="dot")
    figure.update_xaxes(title="relative drop of the forget skill")
    figure.update_yaxes(
        tickvals=list(range(len(ways))),
        ticktext=[as_figure_text(way) for way in ways],
        range=[len(ways) - 0.5, -0.5],
        automargin=True,
        showgrid=False,
        zeroline=False,
    )
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return apply_theme(figure, height=ROW_PIXELS * len(ways) + FRAME_PIXELS + 40)
