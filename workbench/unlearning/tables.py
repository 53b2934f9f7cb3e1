"""CSV tables behind the figures of unlearning, read from its document; unknown fields are ignored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workbench.files import table_csv

Document = Mapping[str, Any]
_CHANGE = ("n", "chance", "before", "after", "relative_drop", "corrected_drop", "abstained")
_INTERVALS = ("before_interval", "after_interval", "interval")
_LAST = ("perplexity_ratio", "warning")


def skills_csv(document: Document) -> bytes:
    """A row per method and skill: before and after with intervals, divergence, the control's drop."""
    header = ["method", "skill", "role", *_change_header(), "kl_median", "kl_mean", "js", "control_drop"]
    return table_csv(header, _skill_rows(document))


def _skill_rows(document: Document) -> Iterator[list[Any]]:
    for method in document["methods"]:
        control = method["control"]["drop"]
        for skill in method["skills"]:
            kl = skill["kl"]
            yield [
                method["method"],
                skill["skill"],
                skill["role"],
                *_change_cells(skill),
                *(kl["median"], kl["mean"], skill["js"], control.get(skill["skill"])),
            ]


def forms_csv(document: Document) -> bytes:
    """A row per method and form of the forget skill."""
    rows = (
        [method["method"], way, *_change_cells(change)]
        for method in document["methods"]
        for way, change in list_forms(method).items()
    )
    return table_csv(["method", "way", *_change_header()], rows)


def list_forms(method: Document) -> dict[str, Document]:
    """Form of the forget skill → a method's effect on it: test, wordings, other forms."""
    forget = method["skills"][0]
    told = {"test": forget, "unseen_wordings": forget.get("unseen"), "seen_wordings": forget.get("seen")}
    forms = {
        f"{form['form']} {form.get('lang') or ''}".strip(): form
        for form in method["robustness"]
        if form["form"] != "paraphrase" or not forget.get("unseen")  # these are the unseen wordings
    }
    return {name: change for name, change in (told | forms).items() if change}


def sweep_csv(document: Document) -> bytes:
    """A row per candidate on validation, with everything the document says of it."""
    points = [
        {"method": method["method"]} | {name: _cell(value) for name, value in _flatten(point).items()}
        for method in document["methods"]
        for point in method["sweep"]
    ]
    header = list(dict.fromkeys(name for point in points for name in point))
    return table_csv(header, ([point.get(name) for name in header] for point in points))


def curve_csv(method: Document) -> bytes:
    """A row per α, or per threshold of a linear guard: the share of every skill's test refused."""
    curve = method["curve"]
    shares, (name, points) = curve["abstention"], read_curve_points(curve)
    return table_csv([name, *shares], zip(points, *shares.values(), strict=True))


def read_curve_points(curve: Document) -> tuple[str, list[float]]:
    """What a curve runs over, alpha or threshold, and its points."""
    name = "threshold" if "thresholds" in curve else "alpha"
    return name, list(curve[f"{name}s"])


def _change_header() -> list[str]:
    ends = [f"{name}_{end}" for name in _INTERVALS for end in ("low", "high")]
    return [*_CHANGE, *ends, *_LAST]


def _change_cells(change: Document) -> list[Any]:
    ends: list[Any] = []
    for name in _INTERVALS:
        ends += change[name] or [None, None]
    return [*(change[name] for name in _CHANGE), *ends, *(change[name] for name in _LAST)]


def _flatten(point: Document) -> dict[str, Any]:
    """A candidate with a column per kept skill in place of its costs."""
    told = {name: value for name, value in point.items() if name != "costs"}
    for cost in point.get("costs", ()):
        told |= {f"cost_{cost['skill']}": cost["cost"], f"cost_{cost['skill']}_by": cost["by"]}
    return told


def _cell(value: Any) -> Any:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return " ".join(map(str, value)) if listed else value
