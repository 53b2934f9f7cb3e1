"""Figure of the answer position before and after."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from analysis.figures.theme import NEUTRAL, POSITIVE, apply_theme

SHOWN = 12
"""How many tokens the figure shows; the table holds them all."""

_ROW_PIXELS = 26
_FRAME_PIXELS = 84


def answer_figure(tokens: Sequence[str], base: Sequence[float], changed: Sequence[float]) -> go.Figure:
    """One row per token, likeliest on top: a ring at the base probability, a diamond at the changed one.

    tokens (n,): as displayed. base, changed (n,) in [0, 1], best first. The first SHOWN are drawn.
    """
    count = min(SHOWN, len(tokens))
    rows, labels = list(range(count)), [as_figure_text(token) for token in tokens[:count]]
    before, after = list(base[:count]), list(changed[:count])
    figure = go.Figure([_path(before, after), *_ends(rows, labels, before, after)])
    apply_theme(figure, height=_FRAME_PIXELS + _ROW_PIXELS * count)
    figure.update_yaxes(
        tickvals=rows,
        ticktext=labels,
        range=[count - 0.4, -0.6],
        showgrid=False,
        zeroline=False,
        automargin=True,
    )
    top = max([*before, *after, 1e-3])
    figure.update_xaxes(
        title="probability of the next token",
        tickformat="~%",
        range=[-0.02 * top, 1.05 * top],
        zeroline=False,
    )
    return figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0.0})


def as_figure_text(text: str) -> str:
    """Escape a text for plotly, which interprets `<b>`, `<a href>` and TeX between dollar signs."""
    return html.escape(text).replace("$", "&#36;") or " "


def _path(before: list[float], after: list[float]) -> go.Scatter:
    x, y = list[float | None](), list[float | None]()
    for row, (start, end) in enumerate(zip(before, after, strict=True)):
        x += [start, end, None]
        y += [row, row, None]
    line = {"color": NEUTRAL, "width": 2}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _ends(rows: list[int], labels: list[str], before: list[float], after: list[float]) -> list[go.Scatter]:
    as_it_is = {"color": NEUTRAL, "symbol": "circle-open", "size": 11, "line": {"width": 2.5}}
    clamped = {"color": POSITIVE, "symbol": "diamond", "size": 11}
    return [
        go.Scatter(
            x=values,
            y=rows,
            name=name,
            mode="markers",
            marker=marker,
            customdata=labels,
            hovertemplate=f"%{{customdata}}: %{{x:.2%}}<extra>{name}</extra>",
        )
        for name, values, marker in (("base", before, as_it_is), ("clamped", after, clamped))
    ]
