"""Names and numbers of a method's answer; no Streamlit."""

from __future__ import annotations

from analysis.skills.metrics import Change, Interval
from analysis.unlearning.methods import name_method as name_known
from workbench.unlearning.answers import MethodAnswer


def name_method(method: MethodAnswer) -> str:
    """A method's name, also for an unknown one."""
    return name_known(method.method)


def format_value(value: float | None) -> str:
    """`0.994`, `−0.010`, or a dash."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def format_interval(ends: Interval | None) -> str:
    """`[0.82, 0.94]`; empty where there is none."""
    return "" if not ends else f"[{ends[0]:.2f}, {ends[1]:.2f}]".replace("-", "−")


def format_drop(change: Change) -> str:
    """`0.882 [0.83, 0.93]`; a dash if `before` was not above chance."""
    return f"{format_value(change.relative_drop)} {format_interval(change.interval)}".strip()
