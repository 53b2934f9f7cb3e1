"""CSV tables behind the figures of unlearning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from analysis.skills.metrics import Change
from workbench.files import table_csv
from workbench.unlearning.answers import Candidate, CurveAnswer, MethodAnswer, UnlearningAnswer

_CHANGE = ("n", "chance", "before", "after", "relative_drop", "corrected_drop", "abstained")
_INTERVALS = ("before_interval", "after_interval", "interval")
_LAST = ("perplexity_ratio", "warning")


def skills_csv(found: UnlearningAnswer) -> bytes:
    """A row per method and skill: before and after with intervals, divergence, the control's drop."""
    header = ["method", "skill", "role", *_change_header(), "kl_median", "kl_mean", "js", "control_drop"]
    return table_csv(header, _skill_rows(found))


def _skill_rows(found: UnlearningAnswer) -> Iterator[list[Any]]:
    for method in found.methods:
        for skill in method.skills:
            divergence = skill.divergence
            yield [
                *(method.method, skill.skill, skill.role),
                *_change_cells(skill.change),
                *(divergence.kl_median, divergence.kl_mean, divergence.js),
                method.control.drop.get(skill.skill),
            ]


def forms_csv(found: UnlearningAnswer) -> bytes:
    """A row per method and form of the forget skill."""
    rows = (
        [method.method, way, *_change_cells(change)]
        for method in found.methods
        for way, change in list_forms(method).items()
    )
    return table_csv(["method", "way", *_change_header()], rows)


def list_forms(method: MethodAnswer) -> dict[str, Change]:
    """Form of the forget skill → a method's effect on it: test, wordings, other forms."""
    forget = method.forget
    told = {"test": forget.change, "unseen_wordings": forget.unseen, "seen_wordings": forget.seen}
    forms = {
        f"{one.form} {one.lang}".strip(): one.change
        for one in method.robustness
        if one.form != "paraphrase" or not forget.unseen  # these are the unseen wordings
    }
    return {name: change for name, change in (told | forms).items() if change}


def sweep_csv(found: UnlearningAnswer) -> bytes:
    """A row per candidate on validation, with everything its method says of it."""
    points = [
        {"method": method.method} | {name: _cell(value) for name, value in _flatten(point).items()}
        for method in found.methods
        for point in method.sweep
    ]
    header = list(dict.fromkeys(name for point in points for name in point))
    return table_csv(header, ([point.get(name) for name in header] for point in points))


def curve_csv(curve: CurveAnswer) -> bytes:
    """A row per α, or per threshold of a linear guard: the share of every skill's test refused."""
    shares = curve.abstention
    return table_csv([curve.name, *shares], zip(curve.points, *shares.values(), strict=True))


def _change_header() -> list[str]:
    ends = [f"{name}_{end}" for name in _INTERVALS for end in ("low", "high")]
    return [*_CHANGE, *ends, *_LAST]


def _change_cells(change: Change) -> list[Any]:
    ends: list[Any] = []
    for interval in (change.before_interval, change.after_interval, change.interval):
        ends += interval or [None, None]
    return [*(getattr(change, name) for name in _CHANGE), *ends, *(getattr(change, name) for name in _LAST)]


def _flatten(point: Candidate) -> dict[str, Any]:
    """A candidate with a column per kept skill in place of its costs."""
    told = {name: value for name, value in point.facts.items() if name != "costs"}
    for cost in point.costs:
        told |= {f"cost_{cost.skill}": cost.cost, f"cost_{cost.skill}_by": cost.by}
    return told


def _cell(value: Any) -> Any:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return " ".join(map(str, value)) if listed else value
