"""Figures for a document outside the app: as JSON without a theme, and the library that draws them."""

from __future__ import annotations

import json
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

INK, GRID = "rgb(128,128,128)", "rgba(139,139,139,0.25)"
"""Of text and lines: readable on light and on dark paper."""


def embed_figure(figure: go.Figure) -> dict[str, Any]:
    """The figure's data and layout as JSON, readable on any paper; the figure itself is changed."""
    figure.update_layout(template="none", font={"color": INK}, autosize=True)
    figure.update_xaxes(gridcolor=GRID, automargin=True)
    figure.update_yaxes(gridcolor=GRID, automargin=True)
    document: dict[str, Any] = json.loads(figure.to_json() or "{}")
    return {"data": document["data"], "layout": document["layout"]}


def read_library() -> str:
    """Plotly's library as JavaScript, about 5 MB, as installed here."""
    return str(get_plotlyjs())
