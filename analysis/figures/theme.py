"""Colours and layout of all figures: readable in light and dark themes and with colour blindness.

Magnitudes run along one hue, signed values from blue over a neutral grey to amber; no rainbow.
"""

from __future__ import annotations

import plotly.graph_objects as go

Figure = go.Figure
"""What every figure function returns, named for modules that draw nothing."""

POSITIVE_RGB = (213, 120, 0)
NEGATIVE_RGB = (0, 114, 178)
"""Amber, and blue by Okabe and Ito: distinguishable with any colour vision, on white and on black."""

POSITIVE = "rgb(213,120,0)"
NEGATIVE = "rgb(0,114,178)"
NEUTRAL = "rgb(139,139,139)"
"""A grey with 3:1 contrast on both backgrounds: lines, missing values, the middle of signed scales."""

CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")

Scale = list[tuple[float, str]]

SEQUENTIAL: Scale = [(0.0, "rgba(213,120,0,0.06)"), (0.5, "rgba(213,120,0,0.55)"), (1.0, "rgb(213,120,0)")]
"""Magnitudes from transparent to amber, for any background."""

READABLE: Scale = [(0.0, "rgba(213,120,0,0.04)"), (1.0, "rgba(213,120,0,0.6)")]
"""Magnitudes under text: weakened so that the page's text stays readable on them in both themes."""

FONT_SIZE = 13
LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0}
"""In one line above the figure."""


def apply_theme(figure: go.Figure, *, height: int) -> go.Figure:
    """Give the figure a transparent background, tight margins and no title; text takes the page's colour."""
    return figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"size": FONT_SIZE},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": NEUTRAL, "activecolor": POSITIVE},
    )
