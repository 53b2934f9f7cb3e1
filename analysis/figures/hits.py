"""The neurons of a word as dots: one row for each layer, their score to the right or to the left of 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import NEGATIVE, NEUTRAL, POSITIVE, apply_theme

ROW_HEIGHT, SHORTEST, TALLEST = 20, 220, 680
LABELLED = 24
"""Most dots with a label: more would cover each other."""


@dataclass(frozen=True)
class Hits:
    """n neurons, best first. layer, score, name and token (n,): token as displayed, name given back on click.

    measure: what the score is.
    """

    layer: Sequence[int]
    score: Sequence[float]
    name: Sequence[str]
    token: Sequence[str]
    measure: str

    def __post_init__(self) -> None:
        if len({len(self.layer), len(self.score), len(self.name), len(self.token)}) != 1:
            raise ValueError("Hits' sequences must all describe the same neurons")


@dataclass(frozen=True)
class LayerSpread:
    """The smallest and the largest score of all neurons of each layer. layers, low, high (l,), ascending."""

    layers: Sequence[int]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        if len({len(self.layers), len(self.low), len(self.high)}) != 1:
            raise ValueError("LayerSpread's sequences must all describe the same layers")


def spread_layers(layer: np.ndarray[Any, Any], score: np.ndarray[Any, Any]) -> LayerSpread:
    """The spread of the scores (n,) of neurons in the layers (n,)."""
    layers = np.unique(layer)
    inside = [score[layer == one] for one in layers]
    return LayerSpread(
        layers.tolist(), [float(one.min()) for one in inside], [float(one.max()) for one in inside]
    )


def hits_figure(hits: Hits, spread: LayerSpread) -> go.Figure:
    """A dot for each hit, amber above 0 and blue below; a grey line from the smallest to the largest score of
    all neurons of a layer. The best of a layer is labelled with its name, at either side of 0.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[x for low, high in zip(spread.low, spread.high, strict=True) for x in (low, high, None)],
        y=[y for layer in spread.layers for y in (layer, layer, None)],
        mode="lines",
        line={"color": NEUTRAL, "width": 1},
        opacity=0.6,
        hoverinfo="skip",
        showlegend=False,
    )
    labels = choose_labels(hits)
    figure.add_scatter(
        x=list(hits.score),
        y=list(hits.layer),
        mode="markers+text",
        text=labels,
        textposition=["middle right" if score >= 0 else "middle left" for score in hits.score],
        textfont={"size": 11},
        marker={"color": [POSITIVE if score >= 0 else NEGATIVE for score in hits.score], "size": 8},
        customdata=[[name, as_figure_text(token)] for name, token in zip(hits.name, hits.token, strict=True)],
        hovertemplate=f"%{{customdata[0]}}: %{{customdata[1]}}<br>{hits.measure} %{{x:.3g}}"
        "<br>click to open<extra></extra>",
        cliponaxis=False,
        showlegend=False,
    )
    rows = len(spread.layers)
    apply_theme(figure, height=int(np.clip(ROW_HEIGHT * rows + 70, SHORTEST, TALLEST)))
    edge = max([abs(x) for x in (*spread.low, *spread.high)], default=1.0) or 1.0
    figure.update_xaxes(title=hits.measure, zeroline=True, zerolinecolor=NEUTRAL, showgrid=False)
    figure.update_xaxes(range=[-1.3 * edge if min(spread.low, default=0) < 0 else 0, 1.3 * edge])
    figure.update_yaxes(title="layer", showgrid=False, zeroline=False, dtick=max(1, rows // 15))
    return figure


def choose_labels(hits: Hits) -> list[str]:
    """A label for the best of each layer at either side of 0, at most LABELLED; "" for the others."""
    labels, taken = [], set[tuple[int, bool]]()
    for layer, score, name in zip(hits.layer, hits.score, hits.name, strict=True):
        place = (layer, score >= 0)
        shown = place not in taken and len(taken) < LABELLED
        labels.append(as_figure_text(name) if shown else "")
        taken.add(place)
    return labels
