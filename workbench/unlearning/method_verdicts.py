"""A method's result as an answer: its numbers, every form, the worst form, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.unlearning.guards.linear_fits import THRESHOLDS
from analysis.unlearning.guards.operating import ALPHAS
from analysis.unlearning.judging.form_names import AS_ASKED
from analysis.unlearning.judging.verdict_rows import find_worst_form, list_forget_forms
from analysis.unlearning.judging.verdicts import Verdict, judge_method
from analysis.unlearning.methods import find_method
from analysis.unlearning.results import MethodResult
from workbench.unlearning.answers import (
    ControlAnswer,
    CurveAnswer,
    FormAnswer,
    MethodAnswer,
    WorstForm,
    read_candidate,
)


@dataclass(frozen=True)
class Judgement:
    """What follows from a method's numbers; see `MethodAnswer`."""

    forms: tuple[FormAnswer, ...]
    worst: WorstForm | None
    verdict: Verdict


def judge_result(found: MethodResult) -> Judgement:
    """Every form with its drop or the share refused, the worst form, and the verdict."""
    worst = find_worst_form(list_forget_forms(found))
    forms = (*_list_forget_forms(found), *_list_asked_forms(found))
    return Judgement(forms, worst and WorstForm(*worst), judge_method(found))


def describe_method(found: MethodResult) -> MethodAnswer:
    """A method's result as an answer."""
    judged = judge_result(found)
    return MethodAnswer(
        method=found.method,
        parameters=found.parameters,
        skills=found.skills,
        over_refusal=found.over_refusal,
        sweep=tuple(read_candidate(one) for one in found.sweep),
        control=ControlAnswer(find_method(found.method).control, found.control),
        robustness=found.robustness,
        curve=_describe_curve(found),
        asked=found.asked,
        utility=found.utility,
        cut_off=found.cut_off,
        forms=judged.forms,
        worst=judged.worst,
        verdict=judged.verdict,
    )


def _describe_curve(found: MethodResult) -> CurveAnswer | None:
    if not found.curve:
        return None
    shares = {name: tuple(curve) for name, curve in found.curve.items()}
    linear = found.parameters.get("measure") == "linear"
    points: dict[str, Any] = {"thresholds": THRESHOLDS} if linear else {"alphas": ALPHAS}
    return CurveAnswer(shares, **points)


def _list_forget_forms(found: MethodResult) -> Iterator[FormAnswer]:
    skill = found.skills[0].skill
    for form, change in list_forget_forms(found).items():
        drop = change.relative_drop
        yield FormAnswer(form, "forget", skill, change.n, change.interval, forget_drop=drop)


def _list_asked_forms(found: MethodResult) -> Iterator[FormAnswer]:
    for one in found.asked:
        form = one.form or AS_ASKED
        yield FormAnswer(form, one.role, one.skill, one.n, one.interval, refused=one.refused)
