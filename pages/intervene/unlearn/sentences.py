"""A method's result in plain words, and whether it reaches the paper's goal; no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pages.shared.tokens import escape_text
from workbench.unlearning.checks import METHOD_NAMES

Document = Mapping[str, Any]
LEAST_FORGOTTEN, MOST_LOST = 0.8, 0.1
"""The paper's goal: a relative drop above the first for the forget skill, below the second for retain
skills."""

WAYS = {
    "test": "the test, whole",
    "unseen_wordings": "in unseen wordings",
    "seen_wordings": "in seen wordings",
    "few_shot": "after answered examples",
    "harmless_prefix": "after a harmless prefix",
    "other_language": "in another language",
    "paraphrase": "in other wordings",
}
"""Names of the forms of the forget skill."""


def name_form(way: str) -> str:
    """A form's name, also for an unknown one; what follows a space is a language."""
    form, _, lang = way.partition(" ")
    name = WAYS.get(form, form.replace("_", " "))
    return f"{name}: {lang}" if lang else name


def name_method(method: Document) -> str:
    """A method's name, also for an unknown one."""
    return next((name for code, name in METHOD_NAMES.items() if code == method["method"]), method["method"])


def format_value(value: float | None) -> str:
    """`0.994`, `−0.010`, or a dash."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def format_interval(ends: list[float] | None) -> str:
    """`[0.82, 0.94]`; empty where there is none."""
    return "" if not ends else f"[{ends[0]:.2f}, {ends[1]:.2f}]".replace("-", "−")


def format_drop(change: Document) -> str:
    """`0.882 [0.83, 0.93]`; a dash if `before` was not above chance."""
    return f"{format_value(change['relative_drop'])} {format_interval(change['interval'])}".strip()


@dataclass(frozen=True)
class GoalVerdict:
    """Whether a method reaches the paper's goal (None: undecidable), and why, as Markdown."""

    reached: bool | None
    why: str


def describe_result(method: Document) -> str:
    """Markdown: the result on the forget skill, the worst retain skill, and the refusals."""
    forget, kept = method["skills"][0], method["skills"][1:]
    told = [_fell(forget), _worst(kept), _describe_refusals(method, kept)]
    return f"**{escape_text(name_method(method))}**: {'; '.join(part for part in told if part)}."


def judge_goal(method: Document) -> GoalVerdict:
    """Judge the goal from the test numbers; an interval that includes the bound is mentioned."""
    forget, kept = method["skills"][0], method["skills"][1:]
    if forget["relative_drop"] is None:
        return GoalVerdict(None, f"{escape_text(forget['skill'])} has no drop to compare with the goal")
    misses = _misses(forget, kept)
    if misses:
        return GoalVerdict(False, "; ".join(misses))
    unknown = [escape_text(skill["skill"]) for skill in kept if skill["relative_drop"] is None]
    if unknown:
        return GoalVerdict(None, f"accuracy does not show whether {', '.join(unknown)} is retained")
    unsure = [escape_text(s["skill"]) for s in (forget, *kept) if _unsure(s, least=s is forget)]
    doubt = f"; yet the interval of {', '.join(unsure)} includes the bound" if unsure else ""
    others = "no retain skill is measured" if not kept else f"every retain drop below {MOST_LOST:g}"
    return GoalVerdict(True, f"drop above {LEAST_FORGOTTEN:g}, {others}{doubt}")


def _misses(forget: Document, kept: list[Document]) -> list[str]:
    short = (
        []
        if forget["relative_drop"] > LEAST_FORGOTTEN
        else [f"a drop of {format_value(forget['relative_drop'])} is not above {LEAST_FORGOTTEN:g}"]
    )
    lost = [skill for skill in kept if (skill["relative_drop"] or 0.0) >= MOST_LOST]
    return short + [
        f"{escape_text(skill['skill'])} loses {format_value(skill['relative_drop'])}, not below {MOST_LOST:g}"
        for skill in lost
    ]


def _unsure(skill: Document, *, least: bool) -> bool:
    ends = skill["interval"]
    return bool(ends) and (ends[0] <= LEAST_FORGOTTEN if least else ends[1] >= MOST_LOST)


def _fell(forget: Document) -> str:
    name = escape_text(forget["skill"])
    if forget["before"] is None:
        ratio = forget["perplexity_ratio"]
        told = "is always refused" if ratio is None else f"has {ratio:.3g} × the perplexity it had"
        return f"{name} {told}, {forget['abstained']:.0%} of it refused"
    change = forget["after"] - forget["before"]
    verb = "falls" if change < 0 else "rises" if change > 0 else "stays"
    told = f"{name} {verb} from {format_value(forget['before'])} to {format_value(forget['after'])}"
    if forget["relative_drop"] is None:
        return f"{told}, not above chance before"
    return f"{told} (relative drop {format_drop(forget)})"


def _worst(kept: list[Document]) -> str:
    known = [skill for skill in kept if skill["relative_drop"] is not None]
    if not known:
        return "no retain skill has a drop" if kept else "there was no retain skill"
    worst = max(known, key=lambda skill: float(skill["relative_drop"]))
    return f"worst retain skill {escape_text(worst['skill'])}, relative drop {format_drop(worst)}"


def _describe_refusals(method: Document, kept: list[Document]) -> str:
    told = []
    if method["over_refusal"] is not None:
        asked = sum(skill["n"] for skill in kept)
        told.append(f"{round(method['over_refusal'] * asked):,} of {asked:,} retain prompts refused")
    if unrelated := method.get("parameters", {}).get("unrelated"):
        refused = round(unrelated["refused"] * unrelated["n"])
        told.append(f"{refused:,} of {unrelated['n']:,} passages of unrelated text refused")
    return ", ".join(told)
