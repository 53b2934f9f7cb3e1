"""Figures of neurons: a map of all of them, and one neuron's histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.theme import NEGATIVE, NEUTRAL, POSITIVE, SEQUENTIAL, apply_theme

MOST_COLUMNS = 300
"""Cells per layer: more cannot be told apart on a screen."""

HISTOGRAM_BINS = 60
ROW_HEIGHT, SHORTEST, TALLEST = 22, 200, 640


@dataclass(frozen=True)
class LayerMap:
    """The best neurons of each layer, best first: l layers, c ≤ MOST_COLUMNS ranks.

    layers (l,); value (l, c) float, NaN where a layer has fewer; text (l, c) hover text; rank (c,) of
    each column, from 1. measure: what the value is, 0 or more.
    """

    layers: np.ndarray[Any, Any]
    rank: np.ndarray[Any, Any]
    value: np.ndarray[Any, Any]
    text: np.ndarray[Any, Any]
    measure: str

    def __post_init__(self) -> None:
        shape = (len(self.layers), len(self.rank))
        if self.value.shape != shape or self.text.shape != shape:
            raise ValueError(f"{shape} cells, but values {self.value.shape} and texts {self.text.shape}")
        if shape[1] > MOST_COLUMNS:
            raise ValueError(f"{shape[1]} columns; at most {MOST_COLUMNS}")


@dataclass(frozen=True)
class Marks:
    """Cells to circle: row (n,), column (n,) of a LayerMap; name (n,): given back when one is clicked."""

    row: Sequence[int]
    column: Sequence[int]
    name: Sequence[str]

    def __post_init__(self) -> None:
        if not len(self.row) == len(self.column) == len(self.name):
            raise ValueError("Marks' sequences must all describe the same cells")


def layer_map_figure(cells: LayerMap, marks: Marks | None = None) -> go.Figure:
    """Layer × rank within the layer, coloured by value: amber from 0."""
    largest = float(np.nanmax(cells.value, initial=0.0)) or 1.0
    figure = go.Figure(
        go.Heatmap(
            x=np.arange(len(cells.rank)),
            y=[f"L{layer}" for layer in cells.layers],
            z=cells.value,
            text=cells.text,
            hovertemplate="%{text}<extra></extra>",
            colorscale=SEQUENTIAL,
            zmin=0,
            zmax=largest,
            colorbar={"title": {"text": cells.measure, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        )
    )
    if marks is not None and len(marks.row):
        figure.add_scatter(
            x=list(marks.column),
            y=[f"L{cells.layers[row]}" for row in marks.row],
            customdata=list(marks.name),
            text=[cells.text[row, column] for row, column in zip(marks.row, marks.column, strict=True)],
            mode="markers",
            marker={"symbol": "circle-open", "size": 8, "color": NEUTRAL, "line": {"width": 1.5}},
            hovertemplate="%{text}<br>click to open<extra></extra>",
            showlegend=False,
        )
    ticks = np.unique(np.linspace(0, len(cells.rank) - 1, num=min(7, len(cells.rank))).round().astype(int))
    figure.update_xaxes(
        title="rank within the layer",
        tickvals=ticks,
        ticktext=[f"{cells.rank[i]:,}" for i in ticks],
        showgrid=False,
    )
    figure.update_yaxes(type="category", showgrid=False)
    return apply_theme(figure, height=int(np.clip(ROW_HEIGHT * len(cells.layers) + 90, SHORTEST, TALLEST)))


def activation_histogram(samples: np.ndarray[Any, Any], *, measure: str = "activation") -> go.Figure:
    """Histogram of activations on a logarithmic count axis; blue below 0, amber above. NaNs are left out.

    samples (n,): one value per position. Raises ValueError for another shape.
    """
    if samples.ndim != 1:
        raise ValueError(f"samples have the shape {samples.shape}; one value per position is needed")
    seen = samples[~np.isnan(samples)]
    counts, edges = np.histogram(seen, bins=_edges(seen))
    middle = (edges[:-1] + edges[1:]) / 2
    figure = go.Figure(
        go.Bar(
            x=middle,
            y=counts,
            width=np.diff(edges),
            marker_color=[POSITIVE if m >= 0 else NEGATIVE for m in middle],
            marker_line_width=0,
            customdata=np.stack([edges[:-1], edges[1:]], -1),
            hovertemplate="%{customdata[0]:.3g} to %{customdata[1]:.3g}: %{y:,} positions<extra></extra>",
        )
    )
    figure.update_xaxes(title=measure, zeroline=True, zerolinecolor=NEUTRAL)
    figure.update_yaxes(title="positions (log)", type="log", dtick=1)
    return apply_theme(figure.update_layout(bargap=0), height=260)


def _edges(seen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Bin edges with one exactly at 0, so that no bar mixes signs."""
    low, high = min(float(seen.min(initial=0)), 0.0), max(float(seen.max(initial=0)), 0.0)
    if low == high:
        return np.array([-0.5, 0.0, 0.5])
    width = (high - low) / HISTOGRAM_BINS
    below, above = int(np.ceil(-low / width)), int(np.ceil(high / width))
    return np.arange(-below, above + 1) * width
