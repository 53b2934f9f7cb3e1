"""Figures of a mixture of experts: largest outputs, residual maxima, router load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from analysis.figures.theme import CATEGORIES, NEGATIVE, NEUTRAL, POSITIVE, SEQUENTIAL, apply_theme

Array = np.ndarray[Any, Any]
ROW_HEIGHT, SHORTEST, TALLEST, PLAIN = 22, 220, 640, 300
MANY = 40
"""With more ranks than this, the axis is logarithmic."""


@dataclass(frozen=True)
class ExpertCells:
    """One value per expert: n of them, each with its layer, its column ("E3", "S0") and its hover text.

    layer (n,), column (n,), value (n,) ≥ 0 (0: none), name (n,): given back when clicked, text (n,).
    """

    layer: Sequence[int]
    column: Sequence[str]
    value: Array
    name: Sequence[str]
    text: Sequence[str]

    def __post_init__(self) -> None:
        sizes = {len(self.layer), len(self.column), len(self.value), len(self.name), len(self.text)}
        if len(sizes) != 1:
            raise ValueError("ExpertCells' sequences must all describe the same experts")


Mark = Literal["super", "chosen"]
_SYMBOLS: dict[Mark, tuple[str, str]] = {
    "super": ("circle-open", NEGATIVE),
    "chosen": ("x-thin-open", NEUTRAL),
}


def expert_map_figure(
    cells: ExpertCells, marks: dict[Mark, Sequence[str]], *, measure: str, log: bool
) -> go.Figure:
    """Layer × expert, coloured by value, optionally on a logarithmic scale; marked experts are labelled."""
    rows, columns = sorted(set(cells.layer)), _in_order(cells.column)
    grid = np.full((len(rows), len(columns)), np.nan)
    hover = np.full(grid.shape, "", dtype=object)
    places: dict[str, tuple[str, str]] = {}
    for at, name in enumerate(cells.name):
        place = rows.index(cells.layer[at]), columns.index(cells.column[at])
        places[name] = cells.column[at], f"L{cells.layer[at]}"
        hover[place] = cells.text[at]
        if cells.value[at] > 0:
            grid[place] = np.log10(cells.value[at]) if log else cells.value[at]
    figure = go.Figure(
        go.Heatmap(
            x=columns,
            y=[f"L{row}" for row in rows],
            z=grid,
            text=hover,
            hovertemplate="%{text}<extra></extra>",
            colorscale=SEQUENTIAL,
            zmin=None if log else 0,
            colorbar=_colorbar(grid, measure, log=log),
        )
    )
    _add_clickable(figure, cells, places)
    for mark, names in marks.items():
        _add_marks(figure, mark, [places[name] for name in names if name in places])
    experts = any(name[:1] in "ES" for name in columns)
    figure.update_xaxes(type="category", showgrid=False, title="expert" if experts else None, nticks=24)
    figure.update_yaxes(type="category", showgrid=False)
    return apply_theme(figure, height=int(np.clip(ROW_HEIGHT * len(rows) + 90, SHORTEST, TALLEST)))


def _add_clickable(figure: go.Figure, cells: ExpertCells, places: dict[str, tuple[str, str]]) -> None:
    """Invisible points over the cells, because a click on a heat map selects nothing."""
    figure.add_scatter(
        x=[places[name][0] for name in cells.name],
        y=[places[name][1] for name in cells.name],
        customdata=list(cells.name),
        text=list(cells.text),
        mode="markers",
        marker={"size": 14, "symbol": "square", "opacity": 0},
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _add_marks(figure: go.Figure, mark: Mark, places: Sequence[tuple[str, str]]) -> None:
    symbol, colour = _SYMBOLS[mark]
    figure.add_scatter(
        x=[column for column, _ in places],
        y=[row for _, row in places],
        mode="markers",
        name=mark,
        marker={"symbol": symbol, "size": 13, "color": colour, "line": {"width": 2, "color": colour}},
        hoverinfo="skip",
        showlegend=False,
    )


def _in_order(columns: Sequence[str]) -> list[str]:
    """Routed experts by number, then shared ones, then the rest."""
    return sorted(
        set(columns), key=lambda name: (name[:1] != "E", name.rstrip("0123456789"), len(name), name)
    )


def _colorbar(grid: Array, measure: str, *, log: bool) -> dict[str, Any]:
    bar: dict[str, Any] = {"title": {"text": measure, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    known = grid[~np.isnan(grid)]
    if log and len(known):
        ticks = np.linspace(known.min(), known.max(), 5)
        bar |= {"tickvals": ticks.tolist(), "ticktext": [_short(10**tick) for tick in ticks]}
    return bar


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def maxima_figure(
    sizes: Array, names: Sequence[str], supers: Sequence[str], bounds: dict[str, float]
) -> go.Figure:
    """All maxima (n,) by rank, largest first, on a logarithmic axis; bounds: name → a horizontal line."""
    order = [int(i) for i in np.argsort(-sizes, kind="stable") if sizes[i] > 0]
    found = set(supers)
    figure = go.Figure(
        go.Scatter(
            x=list(range(1, len(order) + 1)),
            y=[float(sizes[i]) for i in order],
            mode="markers",
            marker={
                "size": [10 if names[i] in found else 5 for i in order],
                "color": [POSITIVE if names[i] in found else NEUTRAL for i in order],
            },
            text=[names[i] for i in order],
            hovertemplate="%{text}: %{y:.4g}<extra></extra>",
            showlegend=False,
        )
    )
    for (name, value), colour in zip(bounds.items(), CATEGORIES, strict=False):
        if value > 0:
            figure.add_scatter(
                x=[1, max(len(order), 2)],
                y=[value] * 2,
                name=f"{name}: {value:.4g}",
                mode="lines",
                line={"color": colour, "dash": "dash"},
                hoverinfo="name",
            )
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    if len(order) > MANY:
        figure.update_xaxes(title="rank (log)", type="log", dtick=1)
    else:
        figure.update_xaxes(title="rank", dtick=1 if len(order) <= 20 else None)
    figure.update_yaxes(title="max |down output| (log)", type="log")
    return apply_theme(figure, height=PLAIN)


@dataclass(frozen=True)
class ResidualCurve:
    """The residual after m layers: layer (m,), first, others, median (m,) of |h|, forms (m,) bool."""

    layer: Sequence[int]
    first: Sequence[float]
    others: Sequence[float]
    median: Sequence[float]
    forms: Sequence[bool]

    def __post_init__(self) -> None:
        if len({len(values) for values in vars(self).values()}) != 1:
            raise ValueError("a ResidualCurve's sequences must all describe the same layers")


def residual_figure(curve: ResidualCurve, *, massive: float) -> go.Figure:
    """Largest and median |h| after each layer, logarithmic; a star where massive activations are formed."""
    figure = go.Figure()
    lines = {"first token": curve.first, "other tokens": curve.others, "median": curve.median}
    for (name, values), colour in zip(lines.items(), (POSITIVE, NEGATIVE, NEUTRAL), strict=True):
        figure.add_scatter(
            x=list(curve.layer), y=list(values), name=name, mode="lines+markers", line={"color": colour}
        )
    forming = [i for i, forms in enumerate(curve.forms) if forms]
    figure.add_scatter(
        x=[curve.layer[i] for i in forming],
        y=[max(curve.first[i], curve.others[i]) for i in forming],
        name="formed here",
        mode="markers",
        marker={"symbol": "star", "size": 13, "color": POSITIVE},
    )
    figure.add_hline(massive, line_color=NEUTRAL, line_dash="dot")
    figure.update_xaxes(title="after layer", dtick=1 if len(curve.layer) <= 40 else None)
    figure.update_yaxes(title="|h| (log)", type="log")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return apply_theme(figure, height=PLAIN)
