"""Documents of unlearning read back as answers, those of earlier versions too.

What these lack takes its default, and where they have no verdict it is made from their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.skills.metrics import Change, Divergence
from analysis.unlearning.judging.verdicts import Verdict
from analysis.unlearning.results import (
    AskedResult,
    FormResult,
    MethodResult,
    Role,
    SkillResult,
    Utility,
)
from analysis.unlearning.token_limits import MOST_CUT_OFF
from workbench.records import IncompleteRecord, read_record
from workbench.unlearning.answers import (
    ControlAnswer,
    CurveAnswer,
    FormAnswer,
    MethodAnswer,
    UnlearningAnswer,
    WorstForm,
    read_candidate,
)
from workbench.unlearning.method_verdicts import Judgement, judge_result


def warn_cut_off(method: MethodAnswer) -> str:
    """A warning if too many answers of the unchanged model were cut off; else empty, as for older results."""
    if method.cut_off <= MOST_CUT_OFF:
        return ""
    return (
        f"{method.cut_off:.0%} of a skill's answers are cut off at {method.settings.max_new_tokens} tokens, "
        "on the unchanged model too: what they would have gone on to say is not judged; allow more new tokens"
    )


def read_unlearning(document: Mapping[str, Any]) -> UnlearningAnswer:
    """The answer that `UnlearningAnswer.to_document` wrote. Raises IncompleteRecord."""
    methods = [read_method(one) for one in read_record(_Methods, document).methods]
    return read_record(UnlearningAnswer, {**document, "methods": methods})


def read_method(document: object) -> MethodAnswer:
    """The answer that `MethodAnswer.to_document` wrote, of earlier versions too. Raises IncompleteRecord."""
    told = read_record(_Method, document)
    if not told.skills:
        raise IncompleteRecord("skills is empty; request the answer again")
    skills = tuple(_read_skill(skill) for skill in told.skills)
    robustness = tuple(_read_form(one) for one in told.robustness)
    utility = None if told.utility is None else _read_utility(told.utility)
    result = MethodResult(
        method=told.method,
        parameters=dict(told.parameters or {}),
        interventions=(),
        skills=skills,
        over_refusal=told.over_refusal,
        sweep=(),
        control={},
        robustness=robustness,
        curve={},
        asked=told.asked,
        utility=utility,
        cut_off=told.cut_off,
    )
    judged = _read_judgement(told, result)
    return MethodAnswer(
        method=result.method,
        parameters=result.parameters,
        skills=skills,
        over_refusal=result.over_refusal,
        sweep=tuple(read_candidate(one) for one in told.sweep),
        control=told.control,
        robustness=robustness,
        curve=told.curve,
        asked=result.asked,
        utility=utility,
        cut_off=result.cut_off,
        forms=judged.forms,
        worst=judged.worst,
        verdict=judged.verdict,
    )


def judge_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """A method's document with forms, worst form and verdict; unchanged where it has them, or where it is too
    odd to be judged.
    """
    if "verdict" in document:
        return dict(document)
    try:
        return {**document, **read_method(document).to_document()}
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ):  # odd parameters raise while they are judged
        return dict(document)


@dataclass(frozen=True)
class _Methods:
    methods: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class _Method:
    """A method's document; what an earlier version did not write has a default."""

    method: str
    skills: tuple[Mapping[str, Any], ...]
    parameters: Mapping[str, Any] | None = None
    over_refusal: float | None = None
    sweep: tuple[Mapping[str, Any], ...] = ()
    control: ControlAnswer = field(default_factory=ControlAnswer)
    robustness: tuple[Mapping[str, Any], ...] = ()
    curve: CurveAnswer | None = None
    asked: tuple[AskedResult, ...] = ()
    utility: Mapping[str, Any] | None = None
    cut_off: float = 0.0
    forms: tuple[FormAnswer, ...] = ()
    worst: WorstForm | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class _Kl:
    median: float | None = None
    mean: float | None = None


@dataclass(frozen=True)
class _Skill:
    """A skill's document beside its change."""

    skill: str
    role: Role
    unseen: Change | None = None
    seen: Change | None = None
    kl: _Kl | None = None
    js: float = 0.0


@dataclass(frozen=True)
class _Form:
    """A form's document beside its change."""

    form: str
    lang: str | None = None


@dataclass(frozen=True)
class _Utility:
    mmlu: Change | None
    perplexity_ratio: float | None
    perplexity_interval: tuple[float, float] | None
    kl: float | None
    n: int


def _read_judgement(told: _Method, result: MethodResult) -> Judgement:
    return judge_result(result) if told.verdict is None else Judgement(told.forms, told.worst, told.verdict)


def _read_skill(document: Mapping[str, Any]) -> SkillResult:
    told, change = read_record(_Skill, document), read_record(Change, document)
    kl = told.kl or _Kl()
    divergence = Divergence(change.n, kl.median, kl.mean, told.js)
    return SkillResult(told.skill, told.role, change, told.unseen, told.seen, divergence)


def _read_form(document: Mapping[str, Any]) -> FormResult:
    told = read_record(_Form, document)
    return FormResult(told.form, read_record(Change, document), told.lang or "")


def _read_utility(document: Mapping[str, Any]) -> Utility:
    told = read_record(_Utility, document)
    return Utility(told.mmlu, told.perplexity_ratio, told.perplexity_interval, told.kl, told.n)
