"""Figure of label agreement by layer."""

from __future__ import annotations

import plotly.graph_objects as go

from analysis.figures.theme import NEUTRAL, POSITIVE, apply_theme
from analysis.neurons.agreement import Agreement

HEIGHT = 260


def agreement_figure(found: Agreement) -> go.Figure:
    """One bar per layer, 0 to 100 %; a line at the share over all neurons."""
    figure = go.Figure(
        go.Bar(
            x=[layer.layer for layer in found.layers],
            y=[layer.share for layer in found.layers],
            marker_color=POSITIVE,
            customdata=[(layer.same, layer.neurons) for layer in found.layers],
            hovertemplate="L%{x}: %{y:.1%}<br>%{customdata[0]:,} of %{customdata[1]:,}<extra></extra>",
        )
    )
    figure.add_hline(found.share, line_color=NEUTRAL, line_dash="dot")
    figure.update_xaxes(title="layer", dtick=1 if len(found.layers) <= 40 else None, fixedrange=False)
    figure.update_yaxes(title="same label", tickformat=".0%", range=[0, 1])
    return apply_theme(figure, height=HEIGHT)
