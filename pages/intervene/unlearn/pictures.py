"""Charts of the Unlearn page: matrix, forms, frontier, abstention over α."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from analysis.figures.answers import as_figure_text
from analysis.figures.skills import abstention_figure
from analysis.figures.unlearning import (
    DropMatrix,
    FormDrop,
    Frontier,
    drop_matrix_figure,
    frontier_figure,
    ways_figure,
)
from analysis.skills.metrics import Change
from analysis.unlearning.judging.form_names import name_form
from analysis.unlearning.judging.verdict_rows import LEAST_FORGOTTEN, MOST_LOST
from analysis.unlearning.results import SkillResult
from pages.intervene.unlearn.sentences import format_drop, format_interval, format_value, name_method
from pages.shared.layout import CHART, show_caption, show_download
from pages.shared.tokens import escape_text
from workbench.unlearning.answers import Candidate, MethodAnswer, UnlearningAnswer
from workbench.unlearning.tables import curve_csv, forms_csv, list_forms, sweep_csv


def show_matrix(found: UnlearningAnswer) -> None:
    """Skills × methods, before → after."""
    skills = [skill.skill for skill in found.methods[0].skills]
    cells = [[one.skills[row] for one in found.methods] for row in range(len(skills))]
    figure = drop_matrix_figure(
        DropMatrix(
            [f"{name} (forget)" if row == 0 else name for row, name in enumerate(skills)],
            [name_method(one) for one in found.methods],
            np.array([[_or_nan(cell.change.relative_drop) for cell in row] for row in cells]),
            [[_format_cell(cell.change) for cell in row] for row in cells],
            [[_describe_cell(cell) for cell in row] for row in cells],
        )
    )
    st.subheader("Before and after", anchor=False)
    st.plotly_chart(
        figure, key="unlearn_matrix", alt="Accuracy before and after, skill by method", config=CHART
    )
    show_caption(
        "Accuracy on the test, base → changed, and the relative drop with its 95 % interval. The "
        "stronger the colour, the larger the drop: the first row should be strong, the others blank."
    )


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _format_cell(change: Change) -> str:
    if change.before is None:
        ratio = change.perplexity_ratio
        return "all refused" if ratio is None else f"perplexity × {ratio:.3g}"
    told = "no drop: not above chance" if change.relative_drop is None else f"drop {format_drop(change)}"
    return f"<b>{format_value(change.before)} → {format_value(change.after)}</b><br>{told}"


def _describe_cell(skill: SkillResult) -> str:
    change = skill.change
    name, warning = as_figure_text(skill.skill), as_figure_text(change.warning).strip()
    return f"{name}: {_format_cell(change)}<br>{change.n} examples, {change.abstained:.1%} refused" + (
        f"<br>{warning}" if warning else ""
    )


def show_forms(found: UnlearningAnswer) -> None:
    """Seen and unseen wordings, and every other form of the forget skill."""
    forms = {name_method(one): list_forms(one) for one in found.methods}
    drops = {
        name: [
            FormDrop(name_form(way), one.relative_drop, one.interval)
            for way, one in told.items()
            if one.relative_drop is not None
        ]
        for name, told in forms.items()
    }
    if not any(drops.values()):
        return
    st.subheader(f"Other forms of {escape_text(found.forget)}", anchor=False)
    figure = ways_figure(drops, goal=LEAST_FORGOTTEN)
    st.plotly_chart(figure, key="unlearn_ways", alt="Relative drop by form", config=CHART)
    show_caption(
        "Relative drop of the forget skill, with 95 % intervals. Unseen: wordings that "
        "no probe had. A mark far to the left of the first row's evades the method. Dotted: "
        f"{LEAST_FORGOTTEN:g}."
    )
    rows = [
        {
            "method": name,
            "asked": name_form(way),
            "n": one.n,
            "before": f"{format_value(one.before)} {format_interval(one.before_interval)}",
            "after": f"{format_value(one.after)} {format_interval(one.after_interval)}",
            "relative drop": format_drop(one),
            "refused": f"{one.abstained:.1%}",
        }
        for name, told in forms.items()
        for way, one in told.items()
    ]
    with st.expander("Numbers: other forms"):
        st.dataframe(pd.DataFrame(rows), hide_index=True)
    show_download("Forms as CSV", forms_csv(found), "unlearn-ways.csv", key="unlearn_ways_csv")


def show_frontier(found: UnlearningAnswer) -> None:
    """Forget drop against worst retain drop: candidates on validation, and the chosen point on the test."""
    places = [draw_frontier(one) for one in found.methods]
    st.subheader("Frontier", anchor=False)
    figure = frontier_figure(places, goal=(MOST_LOST, LEAST_FORGOTTEN))
    st.plotly_chart(figure, key="unlearn_frontier", alt="Forget drop against worst retain drop", config=CHART)
    show_caption(
        "y: forget drop; x: worst retain drop. Open marks: every margin, α or q tried on validation (for "
        "KSD the shares refused, in the chosen layers); filled: the chosen one on the test, in relative "
        "drops. Dotted: the paper's goal."
    )
    show_download("Frontier as CSV", sweep_csv(found), "unlearn-frontier.csv", key="unlearn_sweep_csv")


def draw_frontier(one: MethodAnswer) -> Frontier:
    """A method's candidates of the chosen layers, and the chosen one where both its drops are known."""
    layers = one.settings.layers
    tried = [point for point in one.sweep if point.layers is None or point.layers == layers]
    places = [(_first(p.worst_retain_drop, p.worst_retain), _first(p.forget_drop, p.forget)) for p in tried]
    test, forgotten, lost = None, one.forget.change.relative_drop, one.worst_retain_drop
    unknown = lost is None and len(one.skills) > 1
    if forgotten is not None and not unknown:
        test = (lost or 0.0, forgotten)
    return Frontier(name_method(one), places, [_setting(point) for point in tried], test)


def _first(*values: float | None) -> float:
    """The first that is known, else 0."""
    return float(next((value for value in values if value is not None), 0.0))


def _setting(point: Candidate) -> str:
    """`α 1.35`, `margin 0.9` or `q 3 %`; otherwise as the document has it."""
    if point.margin is not None:
        return f"margin {point.margin:g}"
    if point.alpha is not None:
        return f"α {point.alpha:g}"
    if point.q is not None:
        return f"q {point.q:g} %"
    if point.threshold is not None:
        return f"threshold {point.threshold:g}"
    return ", ".join(f"{name} {value}" for name, value in point.facts.items() if "retain" not in name)


def show_abstention(forget: str, one: MethodAnswer) -> None:
    """For a guard: the share of every test refused at each α, or at each threshold of a linear guard. forget:
    the skill to be forgotten.
    """
    curve, settings = one.curve, one.settings
    chosen = settings.alpha if settings.threshold is None else settings.threshold
    if curve is None or chosen is None:
        return
    name = curve.name
    label = "α" if name == "alpha" else name
    st.subheader(f"Refused over {label}: {escape_text(name_method(one))}", anchor=False)
    shares = {skill: list(found) for skill, found in curve.abstention.items()}
    first = (f"{forget} (forget)", shares.pop(forget))
    figure = abstention_figure(curve.points, [first, *shares.items()], alpha=chosen, title=label)
    st.plotly_chart(figure, key=f"unlearn_curve_{one.method}", alt=f"Share refused over {name}", config=CHART)
    told = (
        "by boxes of every size, with the chosen margin to rivals"
        if name == "alpha"
        else "where its score is at least the threshold: the guard is fitted to give 1 to what is forgotten "
        "and −1 to what is kept"
    )
    show_caption(
        f"Share of each skill's test refused at the prompt {told}. Vertical line: the guard's {label}, set "
        "without seeing the test. The further the thick line is from the others, the better."
    )
    file = f"unlearn-{name}-{one.method}.csv"
    show_download("Curve as CSV", curve_csv(curve), file, key=f"unlearn_curve_csv_{one.method}")
