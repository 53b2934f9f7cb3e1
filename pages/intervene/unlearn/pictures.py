"""The pictures of the Unlearn page: matrix, other ways of asking, frontier, abstention over α."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.figures.answers import as_figure_text
from analysis.figures.skills import abstention_figure
from analysis.figures.unlearning import (
    Asked,
    DropMatrix,
    Frontier,
    drop_matrix_figure,
    frontier_figure,
    ways_figure,
)
from pages.intervene.unlearn.sentences import (
    LEAST_FORGOTTEN,
    MOST_LOST,
    drop,
    interval,
    method_name,
    number,
    way_name,
)
from pages.shared.layout import caption, download
from pages.shared.tokens import plain
from workbench.unlearning.tables import curve_csv, sweep_csv, ways_csv, ways_of

Document = Mapping[str, Any]
_CONFIG = {"toImageButtonOptions": {"format": "svg"}, "displaylogo": False}


def matrix(document: Document) -> None:
    """Skills × methods, before → after."""
    methods = document["methods"]
    skills = [skill["skill"] for skill in methods[0]["skills"]]
    cells = [[one["skills"][row] for one in methods] for row in range(len(skills))]
    figure = drop_matrix_figure(
        DropMatrix(
            [f"{name} (forget)" if row == 0 else name for row, name in enumerate(skills)],
            [method_name(one) for one in methods],
            np.array([[_or_nan(cell["relative_drop"]) for cell in row] for row in cells]),
            [[_written(cell) for cell in row] for row in cells],
            [[_told(cell) for cell in row] for row in cells],
        ),
        theme=st.context.theme.type or "light",
    )
    st.subheader("Before and after", anchor=False)
    st.plotly_chart(
        figure, key="unlearn_matrix", alt="Accuracy before and after, skill by method", config=_CONFIG
    )
    caption(
        "Accuracy on the test, as the model is → changed, and the relative drop with its 95 % interval. "
        "The stronger the colour, the more is gone: it should fill the first row, and no other."
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _written(skill: Document) -> str:
    if skill["before"] is None:
        ratio = skill["perplexity_ratio"]
        return "all refused" if ratio is None else f"perplexity × {ratio:.3g}"
    told = "no drop: not above chance" if skill["relative_drop"] is None else f"drop {drop(skill)}"
    return f"<b>{number(skill['before'])} → {number(skill['after'])}</b><br>{told}"


def _told(skill: Document) -> str:
    name, warning = as_figure_text(skill["skill"]), as_figure_text(skill["warning"]).strip()
    return f"{name}: {_written(skill)}<br>{skill['n']} examples, {skill['abstained']:.1%} refused" + (
        f"<br>{warning}" if warning else ""
    )


def ways(document: Document) -> None:
    """Seen and unseen wordings, and every other form in which the forgotten skill was asked."""
    found = {method_name(one): ways_of(one) for one in document["methods"]}
    drops = {
        name: [
            Asked(way_name(way), one["relative_drop"], one["interval"] and tuple(one["interval"]))
            for way, one in told.items()
            if one["relative_drop"] is not None
        ]
        for name, told in found.items()
    }
    if not any(drops.values()):
        return
    st.subheader(f"Asked in other ways: {plain(document['forget'])}", anchor=False)
    figure = ways_figure(drops, goal=LEAST_FORGOTTEN)
    st.plotly_chart(figure, key="unlearn_ways", alt="Relative drop by way of asking", config=_CONFIG)
    caption(
        "How much of the skill is gone, with 95 % intervals; further right is more. Unseen: wordings that "
        f"no probe had. A mark far left of the first row is a way around it. Dotted: {LEAST_FORGOTTEN:g}."
    )
    rows = [
        {
            "method": name,
            "asked": way_name(way),
            "n": one["n"],
            "before": f"{number(one['before'])} {interval(one['before_interval'])}",
            "after": f"{number(one['after'])} {interval(one['after_interval'])}",
            "relative drop": drop(one),
            "refused": f"{one['abstained']:.1%}",
        }
        for name, told in found.items()
        for way, one in told.items()
    ]
    with st.expander("Numbers: other ways of asking"):
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    download("Ways as CSV", ways_csv(document), "unlearn-ways.csv", key="unlearn_ways_csv")


def frontier(document: Document) -> None:
    """Forgotten against lost elsewhere: what validation tried, and the chosen point on the test."""
    found = [_frontier(one) for one in document["methods"]]
    st.subheader("Frontier", anchor=False)
    figure = frontier_figure(found, goal=(MOST_LOST, LEAST_FORGOTTEN))
    st.plotly_chart(figure, key="unlearn_frontier", alt="Forgotten against lost elsewhere", config=_CONFIG)
    caption(
        "Up: more of the skill is gone. Right: more of the worst other skill is. Open marks: every "
        "margin, α or q that validation tried (of KSD the shares refused, in the layers chosen); filled: the "
        "chosen one on the test, in relative drops. Dotted: the paper's goal."
    )
    download("Frontier as CSV", sweep_csv(document), "unlearn-frontier.csv", key="unlearn_sweep_csv")


def _frontier(one: Document) -> Frontier:
    layers, at = one["parameters"].get("layers"), one["frontier"]
    tried = [point for point in one["sweep"] if point.get("layers", layers) == layers]
    places = [
        (
            float(point.get("worst_retain_drop", point.get("worst_retain")) or 0.0),
            float(point.get("forget_drop", point.get("forget")) or 0.0),
        )
        for point in tried
    ]
    test = None
    unknown = at["worst_retain_drop"] is None and len(one["skills"]) > 1
    if at["forget_drop"] is not None and not unknown:
        test = (float(at["worst_retain_drop"] or 0.0), float(at["forget_drop"]))
    return Frontier(method_name(one), places, [_setting(point) for point in tried], test)


def _setting(point: Document) -> str:
    """`α 1.35`, `margin 0.9` or `q 3 %`; of something else, what the document says."""
    if isinstance(point.get("margin"), int | float):
        return f"margin {point['margin']:g}"
    if "alpha" in point:
        return f"α {point['alpha']:g}" if isinstance(point["alpha"], int | float) else f"α {point['alpha']}"
    if "q" in point:
        return f"q {point['q']:g} %"
    return ", ".join(f"{name} {value}" for name, value in point.items() if "retain" not in name)


def abstention(document: Document, one: Document) -> None:
    """Of a guard: which share of every test each α would refuse."""
    curve = one.get("curve")
    if not curve:
        return
    st.subheader(f"Refused over α: {plain(method_name(one))}", anchor=False)
    shares = dict(curve["abstention"])
    forget = (f"{document['forget']} (forget)", shares.pop(document["forget"]))
    figure = abstention_figure(
        curve["alphas"], [forget, *shares.items()], alpha=float(one["parameters"]["alpha"])
    )
    st.plotly_chart(
        figure, key=f"unlearn_curve_{one['method']}", alt="Share refused over alpha", config=_CONFIG
    )
    caption(
        "Which share of each skill's test boxes of every size refuse at the prompt's last token, with the "
        "margin to rivals that was chosen. Upright: the guard's α, set without seeing this. The further the "
        "thick line lies from the others, the better."
    )
    name = f"unlearn-alpha-{one['method']}.csv"
    download("Curve as CSV", curve_csv(one), name, key=f"unlearn_curve_csv_{one['method']}")
