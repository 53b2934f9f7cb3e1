"""Figure of doses: what one neuron does to a word at every value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.figures.answers import as_figure_text
from analysis.figures.theme import LEGEND, NEGATIVE, NEUTRAL, POSITIVE, apply_theme

HEIGHT, DIVERGENCE_HEIGHT = 340, 130
MOST_LINES = 16
"""Prompts drawn one by one; the mean is over all."""
TICK_STEP = 4.0
"""Ratio of neighbouring labelled values of one sign."""
BAND = "rgba(139,139,139,0.22)"
SPOILED = "rgba(213,120,0,0.14)"


@dataclass(frozen=True)
class DoseLines:
    """P(word) in [0, 1] of one neuron held at n ascending values; None where the model gave NaN.

    mean (n,), probability (prompts, n). base: without clamps. band (n,): smallest and largest of random
    neurons, () if none were run. repeats (n,): whether the text repeats itself; spoiled (n,): whether it
    does or neutral text changes much. kl, neutral_kl (n,): nats at the answer position, and nats a token of
    neutral text; None where not measured.
    """

    values: Sequence[float]
    mean: Sequence[float | None]
    probability: Sequence[Sequence[float | None]]
    base: float
    band: Sequence[tuple[float, float]]
    repeats: Sequence[bool]
    spoiled: Sequence[bool]
    kl: Sequence[float | None]
    neutral_kl: Sequence[float | None]

    def __post_init__(self) -> None:
        count = len(self.values)
        single = (self.mean, self.repeats, self.spoiled, self.kl, self.neutral_kl, *self.probability)
        if {*map(len, single), len(self.band) or count} != {count}:
            raise ValueError("DoseLines' sequences must all have one entry for each value")
        if list(self.values) != sorted(self.values):
            raise ValueError("DoseLines' values must ascend")


def dose_figure(word: str, lines: DoseLines, *, unit: str) -> go.Figure:
    """P(word) over a neuron's value: a thick line for the mean, a thin one for each prompt, random neurons as
    a grey band, the base as a dotted line; a cross where the text repeats itself, amber where it is spoiled.
    Below, if measured, the KL divergences on a logarithmic axis.

    The value axis is linear up to the smallest value and logarithmic beyond it, alike for both signs. A point
    of the mean carries its place among the values, which a click gives back.
    """
    measured = any(value is not None for value in (*lines.kl, *lines.neutral_kl))
    figure = make_subplots(
        rows=2 if measured else 1,
        shared_xaxes=True,
        row_heights=[0.68, 0.32] if measured else [1.0],
        vertical_spacing=0.06,
    )
    smallest = min((abs(value) for value in lines.values if value), default=1.0)
    x = [bend_value(value, smallest) for value in lines.values]
    _shade_spoiled(figure, x, lines.spoiled)
    if lines.band:
        _draw_band(figure, x, lines.band)
    _draw_effect(figure, x, lines, unit)
    if measured:
        _draw_divergences(figure, x, lines)
    apply_theme(figure, height=HEIGHT + DIVERGENCE_HEIGHT * measured)
    ticks = choose_ticks(lines.values)
    figure.update_xaxes(
        tickvals=[bend_value(value, smallest) for value in ticks],
        ticktext=[f"{value:.3g}".replace("-", "−") for value in ticks],
        showgrid=False,
        zeroline=True,
        zerolinecolor=NEUTRAL,
    )
    figure.update_xaxes(title=f"value ({unit})", row=2 if measured else 1)
    figure.update_yaxes(
        title=f"P({as_figure_text(word)})", tickformat="~%", range=[-0.03, 1.03], zeroline=False, row=1
    )
    return figure.update_layout(legend=LEGEND, margin={"t": 28})


def _draw_effect(figure: go.Figure, x: Sequence[float], lines: DoseLines, unit: str) -> None:
    for row in lines.probability[:MOST_LINES]:
        thin = {"color": POSITIVE, "width": 1}
        figure.add_scatter(
            x=x, y=list(row), mode="lines", line=thin, opacity=0.45, hoverinfo="skip", showlegend=False
        )
    labels = [f"{value:+.3g} {unit}" for value in lines.values]
    figure.add_scatter(
        x=x,
        y=list(lines.mean),
        name="mean over prompts",
        mode="lines+markers",
        line={"color": POSITIVE, "width": 3},
        marker={"size": 9, "symbol": ["x" if repeats else "circle" for repeats in lines.repeats]},
        customdata=[[at, label] for at, label in enumerate(labels)],
        hovertemplate="%{customdata[1]}: %{y:.2%}<extra></extra>",
    )
    if any(lines.repeats):
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"symbol": "x", "size": 9, "color": POSITIVE},
            name="text repeats itself",
        )
    ends = [x[0], x[-1]] if x else []
    figure.add_scatter(
        x=ends,
        y=[lines.base] * len(ends),
        name="without clamps",
        mode="lines",
        line={"color": NEUTRAL, "dash": "dot", "width": 2},
        hovertemplate="without clamps: %{y:.2%}<extra></extra>",
    )


def _draw_divergences(figure: go.Figure, x: Sequence[float], lines: DoseLines) -> None:
    for name, values, dash in (
        ("KL at the answer position", lines.kl, "solid"),
        ("KL on neutral text, a token", lines.neutral_kl, "dash"),
    ):
        figure.add_scatter(
            x=x,
            y=[value or None for value in values],  # a logarithm has no place for 0, the value 0 itself
            name=name,
            mode="lines",
            line={"color": NEGATIVE, "width": 2, "dash": dash},
            hovertemplate=f"%{{y:.3g}} nats<extra>{name}</extra>",
            row=2,
            col=1,
        )
    figure.update_yaxes(title="KL (nats)", type="log", zeroline=False, exponentformat="power", row=2)


def bend_value(value: float, smallest: float) -> float:
    """A value's place on the axis: asinh(value / smallest), odd, so both signs mirror each other."""
    return math.asinh(value / smallest)


def choose_ticks(values: Sequence[float]) -> list[float]:
    """Values to label: 0 if it is among them, and of each sign the largest, its quarter, and so on."""
    found = {0.0} if 0.0 in values else set[float]()
    for sign in (1.0, -1.0):
        sizes = [abs(value) for value in values if value * sign > 0]
        size = max(sizes, default=0.0)
        while sizes and size >= min(sizes) * (1 - 1e-9):
            found.add(sign * size)
            size /= TICK_STEP
    return sorted(found)


def _shade_spoiled(figure: go.Figure, x: Sequence[float], spoiled: Sequence[bool]) -> None:
    """A strip around each spoiled value, halfway to its neighbours, and an entry in the legend."""
    for at, bad in enumerate(spoiled):
        if bad:
            left = x[at] if at == 0 else (x[at - 1] + x[at]) / 2
            right = x[at] if at == len(x) - 1 else (x[at] + x[at + 1]) / 2
            figure.add_vrect(
                x0=left,
                x1=right,
                fillcolor=SPOILED,
                line_width=0,
                layer="below",
                row=1,
                col=1,
                exclude_empty_subplots=False,
            )
    if any(spoiled):
        square = {"color": SPOILED, "symbol": "square", "size": 12}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=square, name="other text suffers")


def _draw_band(figure: go.Figure, x: Sequence[float], band: Sequence[tuple[float, float]]) -> None:
    edge = {"color": NEUTRAL, "width": 0}
    low, high = ([pair[end] for pair in band] for end in (0, 1))
    figure.add_scatter(x=x, y=low, mode="lines", line=edge, hoverinfo="skip", showlegend=False)
    figure.add_scatter(
        x=x,
        y=high,
        name="random neurons",
        mode="lines",
        line=edge,
        fill="tonexty",
        fillcolor=BAND,
        hovertemplate="random neurons up to %{y:.2%}<extra></extra>",
    )
