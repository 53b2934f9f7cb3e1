"""Figures of pruning: its effect beside random sets, attention sinks before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis.figures.theme import NEGATIVE, NEUTRAL, POSITIVE, apply_theme

Array = np.ndarray[Any, Any]
PLAIN = 300


def sink_figure(layers: Sequence[int], base: Array, pruned: Array, even: Array) -> go.Figure:
    """Attention mass on the first token, a dot per head (layers, heads), before and after; dotted: even
    attention.
    """
    figure = go.Figure()
    for name, masses, colour, shift in (
        ("base", base, NEUTRAL, -0.12),
        ("pruned", pruned, POSITIVE, 0.12),
    ):
        places = np.argwhere(~np.isnan(masses)).tolist()
        figure.add_scatter(
            x=[layers[i] + shift for i, _ in places],
            y=[float(masses[i, j]) for i, j in places],
            name=name,
            mode="markers",
            marker={"color": colour, "size": 6, "opacity": 0.75},
            text=[f"L{layers[i]} head {j}" for i, j in places],
            hovertemplate="%{text}: %{y:.3f}<extra></extra>",
        )
    figure.add_scatter(
        x=list(layers), y=even, name="even attention", mode="lines", line={"color": NEGATIVE, "dash": "dot"}
    )
    figure.update_xaxes(title="layer", dtick=1 if len(layers) <= 40 else None)
    figure.update_yaxes(title="mass on the first token", range=[0, 1.02])
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return apply_theme(figure, height=PLAIN)


def decay_figure(decays: Mapping[str, Sequence[Sequence[float | None]]]) -> go.Figure:
    """Sink decay by layer: group → sets → layers; the first group a line, other groups' sets grey dots."""
    figure = go.Figure()
    for at, (name, sets) in enumerate(decays.items()):
        places = [(layer, one) for values in sets for layer, one in enumerate(values) if one is not None]
        first = at == 0
        figure.add_scatter(
            x=[layer + 0.12 * at for layer, _ in places],
            y=[one for _, one in places],
            name=name,
            mode="lines+markers" if first else "markers",
            marker={
                "color": POSITIVE if first else NEUTRAL,
                "size": 9 if first else 5,
                "symbol": ("circle", "circle", "diamond")[min(at, 2)],
            },
            hovertemplate="%{y:.3f}<extra>" + name + "</extra>",
        )
    figure.add_hline(0, line_color=NEUTRAL, line_dash="dot")
    deep = max((len(values) for sets in decays.values() for values in sets), default=0)
    figure.update_xaxes(title="layer", dtick=1 if deep <= 40 else None)
    figure.update_yaxes(title="sink decay")
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    return apply_theme(figure, height=PLAIN)


def effect_figure(groups: Mapping[str, Sequence[float]]) -> go.Figure:
    """Δ mean NLL of every set, a row per group: the pruned set and its random controls."""
    figure = go.Figure()
    for at, (name, values) in enumerate(groups.items()):
        figure.add_scatter(
            x=list(values),
            y=[name] * len(values),
            mode="markers",
            marker={"color": POSITIVE if at == 0 else NEUTRAL, "size": 12 if at == 0 else 8, "opacity": 0.8},
            hovertemplate="%{x:+.4g} nats per token<extra></extra>",
            showlegend=False,
        )
    figure.add_vline(0, line_color=NEUTRAL, line_dash="dot")
    figure.update_xaxes(title="Δ mean NLL (nats per token)")
    figure.update_yaxes(type="category", autorange="reversed")
    return apply_theme(figure, height=60 * len(groups) + 90)
