"""Figures of a skill's key boxes: keys in a plane, abstention over α and over layers, a query's depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import CATEGORIES, NEGATIVE, NEUTRAL, POSITIVE, READABLE, apply_theme

Array = np.ndarray[Any, Any]
TALL, PLAIN, ROW_HEIGHT = 460, 320, 26
_OTHERS = (*(colour for colour in CATEGORIES if colour not in ("#e69f00", "#d55e00")), "#7a5cc4")
"""Colours that differ clearly from the skill's amber."""

_SHAPES = ("circle", "square", "triangle-up", "triangle-down", "pentagon", "hexagram", "star-triangle-up")

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_LEGEND = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0.0}


@dataclass(frozen=True)
class SetPoints:
    """One set's queries in the plane: points (n, 2), inside (n,) bool, probe (n,) bool, texts (n,)."""

    name: str
    points: Array
    inside: Array
    probe: Array
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if len({len(self.points), len(self.inside), len(self.probe), len(self.texts)}) != 1:
            raise ValueError("SetPoints' arrays must all describe the same queries")


def set_colours(count: int) -> list[str]:
    """Colours: amber for the skill, one each for the skills it is compared with, grey for unrelated text
    (last).
    """
    others = [_OTHERS[i % len(_OTHERS)] for i in range(max(count - 2, 0))]
    return [POSITIVE, *others, NEUTRAL][:count]


def keys_figure(
    sets: Sequence[SetPoints],
    corners: Array,
    shares: tuple[float, float],
    query: tuple[float, float] | None = None,
) -> go.Figure:
    """Queries in the plane, filled if inside the box, and the box's slice with corners (v, 2).

    The first set is the skill, the last unrelated text. shares: of the variance along each axis, in [0, 1].
    """
    figure = go.Figure(_slice(corners))
    for i, colour in reversed(list(enumerate(set_colours(len(sets))))):
        shape = "cross" if i == len(sets) - 1 else _SHAPES[i % len(_SHAPES)]
        figure.add_trace(_dots(sets[i], ~sets[i].probe, colour, shape))
    if sets[0].probe.any():
        figure.add_trace(_dots(sets[0], sets[0].probe, POSITIVE, "diamond", ", probes"))
    if query is not None:
        figure.add_scatter(
            x=[query[0]],
            y=[query[1]],
            name="your query",
            mode="markers",
            marker={"symbol": "star", "size": 17, "color": POSITIVE, "line": {"width": 2, "color": NEGATIVE}},
            hovertemplate="your query<extra></extra>",
        )
    figure.update_xaxes(title=f"first component, {shares[0]:.0%} of the variance", zeroline=False)
    figure.update_yaxes(title=f"second component, {shares[1]:.0%}", zeroline=False)
    figure.update_layout(legend={**_LEGEND, "traceorder": "reversed", "itemsizing": "constant"})
    return apply_theme(figure, height=TALL)


def _slice(corners: Array) -> go.Scatter:
    closed = np.concatenate([corners, corners[:1]])
    return go.Scatter(
        x=closed[:, 0],
        y=closed[:, 1],
        name="slice of the box",
        mode="lines",
        line={"color": POSITIVE, "width": 2},
        fill="toself",
        fillcolor="rgba(213,120,0,0.10)",
        hoverinfo="skip",
    )


def _dots(one: SetPoints, chosen: Array, colour: str, shape: str, part: str = "") -> go.Scatter:
    name = as_figure_text(one.name) + part
    inside = one.inside[chosen]
    texts = [_wrap(text) for text, mine in zip(one.texts, chosen, strict=True) if mine]
    return go.Scatter(
        x=one.points[chosen, 0],
        y=one.points[chosen, 1],
        name=name,
        mode="markers",
        marker={
            "symbol": [shape if held else f"{shape}-open" for held in inside],
            "size": 8,
            "color": colour,
            "opacity": 0.8,
            "line": {"width": 1.4},
        },
        customdata=[
            f"{name}, {'inside' if held else 'outside'}<br>{text}"
            for held, text in zip(inside, texts, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _wrap(text: str, width: int = 60) -> str:
    """Escape a text for a hover label and wrap it."""
    flat = text.replace("\n", " ⏎ ")
    return "<br>".join(as_figure_text(flat[i : i + width]) for i in range(0, len(flat), width))


def abstention_figure(
    alphas: Sequence[float],
    curves: Sequence[tuple[str, Sequence[float]]],
    *,
    alpha: float,
    bound: float | None = None,
    title: str = "α",
) -> go.Figure:
    """The share (len(alphas),) of each set that is refused, over α; the first is the skill, the last
    unrelated text. alpha: the current α; bound: the largest share allowed of a retain skill, drawn if given.
    title: what the alphas are.
    """
    figure = go.Figure()
    colours = set_colours(len(curves))
    for i, ((name, shares), colour) in enumerate(zip(curves, colours, strict=True)):
        figure.add_scatter(
            x=list(alphas),
            y=list(shares),
            name=as_figure_text(name),
            mode="lines",
            line={"color": colour, "width": 3.5 if i == 0 else 1.8, "dash": "solid" if i == 0 else _dash(i)},
            hovertemplate="%{y:.1%}",
        )
    if bound is not None:
        figure.add_hline(bound, line_color=NEUTRAL, line_dash="dot", line_width=1)
    figure.add_vline(alpha, line_color=NEUTRAL, line_width=2)
    figure.update_xaxes(title=title, zeroline=False)
    figure.update_yaxes(title="refused", tickformat=".0%", range=[-0.02, 1.02], zeroline=False)
    figure.update_layout(legend=_LEGEND, hovermode="x unified")
    return apply_theme(figure, height=PLAIN)


def _dash(index: int) -> str:
    return _DASHES[index % len(_DASHES)]


def abstention_map(
    rows: Sequence[str], columns: Sequence[str], shares: Array, counts: Sequence[int]
) -> go.Figure:
    """shares (rows, columns) in [0, 1] refused, NaN for a set without queries; counts (columns,) of them."""
    places = [(x, y) for y in range(len(rows)) for x in range(len(columns))]
    told = [["–" if np.isnan(value) else f"{value:.0%}" for value in row] for row in shares]
    sets = [f"{as_figure_text(name)}, {n} queries" for name, n in zip(columns, counts, strict=True)]
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            zmin=0,
            zmax=1,
            text=[
                [f"{row}, {sets[x]}: {told[y][x]} refused" for x in range(len(sets))]
                for y, row in enumerate(rows)
            ],
            hovertemplate="%{text}<extra></extra>",
            colorscale=READABLE,
            colorbar={"title": {"text": "refused", "side": "right"}, "tickformat": ".0%", "thickness": 12},
        )
    )
    figure.add_scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        text=[told[y][x] for x, y in places],
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    names = [as_figure_text(name) for name in columns]
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=names, showgrid=False, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=list(rows),
        autorange="reversed",
        showgrid=False,
        zeroline=False,
    )
    return apply_theme(figure, height=90 + ROW_HEIGHT * max(len(rows), 4))


def depth_figure(
    layers: Sequence[str], depths: Sequence[float], inside: Sequence[bool], *, alpha: float
) -> go.Figure:
    """A query's depth in each layer on a logarithmic axis; filled if inside the box of α."""
    figure = go.Figure(
        go.Scatter(
            x=list(layers),
            y=list(depths),
            mode="markers+lines",
            line={"color": NEUTRAL, "width": 1},
            marker={
                "symbol": ["circle" if held else "circle-open" for held in inside],
                "size": 12,
                "color": POSITIVE,
                "line": {"width": 2},
            },
            hovertemplate="%{x}: depth %{y:.3g}<extra></extra>",
            showlegend=False,
        )
    )
    figure.add_hline(alpha, line_color=NEUTRAL, line_width=2)
    figure.update_xaxes(type="category", title="layer")
    figure.update_yaxes(title="depth (log)", type="log")
    return apply_theme(figure, height=240)
