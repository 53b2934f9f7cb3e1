"""Figures of the answer position before and after, and of a word along two texts."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go

from analysis.figures.theme import NEUTRAL, POSITIVE, apply_theme

SHOWN = 12
"""How many tokens the figure shows; the table holds them all."""

_ROW_PIXELS = 26
_FRAME_PIXELS = 84
_PATH_PIXELS = 180


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


def word_path_figure(
    word: str,
    tokens: tuple[Sequence[str], Sequence[str]],
    paths: tuple[Sequence[float | None], Sequence[float | None]],
) -> go.Figure:
    """P(word) at each generated position of the base and the changed text, one line each.

    tokens: of each text, as displayed. paths: P(word) in [0, 1] before each token is chosen, None for
    unknown; of equal lengths within a text.
    """
    figure = go.Figure()
    looks = (("base", NEUTRAL, "dot"), ("clamped", POSITIVE, "solid"))
    for (name, colour, dash), texts, path in zip(looks, tokens, paths, strict=True):
        if len(texts) != len(path):
            raise ValueError(f"{len(texts)} tokens and {len(path)} probabilities of the {name} text")
        figure.add_scatter(
            x=list(range(1, len(path) + 1)),
            y=list(path),
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"size": 4},
            customdata=[as_figure_text(text) for text in texts],
            hovertemplate=f"before %{{customdata}}: %{{y:.2%}}<extra>{name}</extra>",
        )
    apply_theme(figure, height=_PATH_PIXELS)
    figure.update_xaxes(title="generated token", showgrid=False, zeroline=False)
    figure.update_yaxes(
        title=f"P({as_figure_text(word)})", tickformat="~%", range=[-0.03, 1.03], zeroline=False
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
