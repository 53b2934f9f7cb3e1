"""Answers about unlearning, written as JSON; `documents.py` reads them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.skills.metrics import Change
from analysis.unlearning.edits.neuron_shares import KeptCost
from analysis.unlearning.judging.verdicts import Verdict
from analysis.unlearning.results import AskedResult, FormResult, SkillResult, Utility
from store.unlearning_evidence import MethodVerdict, read_method_verdict
from workbench.records import read_odd_record, write_record
from workbench.unlearning.split_answers import SplitAnswer


@dataclass(frozen=True)
class Unrelated:
    """The share of n passages of unrelated text that a guard refuses, in [0, 1]."""

    refused: float
    n: int


@dataclass(frozen=True)
class MethodSettings:
    """What is read of a method's parameters; None: it has no such one."""

    layers: tuple[int, ...] | None = None
    alpha: float | None = None
    threshold: float | None = None
    max_new_tokens: int | None = None
    unrelated: Unrelated | None = None


@dataclass(frozen=True)
class Candidate:
    """A candidate on validation. facts: all that its method says of it; the other fields are what is read of
    them, None where a method has none. forget, worst_retain: shares refused by a guard, in [0, 1]; the drops
    are of a method that answers. q: % of neurons.
    """

    layers: tuple[int, ...] | None = None
    alpha: float | None = None
    margin: float | None = None
    threshold: float | None = None
    q: float | None = None
    forget: float | None = None
    worst_retain: float | None = None
    forget_drop: float | None = None
    worst_retain_drop: float | None = None
    costs: tuple[KeptCost, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_candidate(facts: Mapping[str, Any]) -> Candidate:
    """A candidate from all that its method says of it."""
    return replace(read_odd_record(Candidate, facts), facts=facts)


@dataclass(frozen=True)
class ControlAnswer:
    """What a method's control is, and the relative drop of each skill under it; empty without one."""

    kind: str = ""
    drop: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class CurveAnswer:
    """A guard over its α, or over the threshold of a linear one: the share of every skill's test refused at
    each point, in [0, 1].
    """

    abstention: Mapping[str, tuple[float, ...]]
    alphas: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """What it runs over."""
        return "alpha" if self.thresholds is None else "threshold"

    @property
    def points(self) -> tuple[float, ...]:
        """The values of that."""
        return (self.alphas if self.thresholds is None else self.thresholds) or ()

    def to_document(self) -> dict[str, Any]:
        """As `unlearn --json` prints it of a method."""
        shares = {name: list(found) for name, found in self.abstention.items()}
        return {f"{self.name}s": list(self.points), "abstention": shares}


@dataclass(frozen=True)
class FormAnswer:
    """A form of what was asked: the forget skill's relative drop in it, or the share refused of something
    else; the other is None.
    """

    form: str
    role: str
    skill: str
    n: int
    interval: tuple[float, float] | None
    forget_drop: float | None = None
    refused: float | None = None

    def to_document(self) -> dict[str, Any]:
        """As `unlearn --json` prints it of a method."""
        forgets = self.role == "forget"
        measured = {"forget_drop": self.forget_drop} if forgets else {"refused": self.refused}
        ends = self.interval and list(self.interval)
        told = {"form": self.form, "role": self.role, "skill": self.skill}
        return told | measured | {"n": self.n, "interval": ends}


@dataclass(frozen=True)
class WorstForm:
    """The form with the lowest relative drop of the forget skill."""

    form: str
    drop: float


@dataclass(frozen=True)
class MethodAnswer:
    """What a method did to each skill, the forget skill first, and the verdict on it; fields as those of
    `MethodResult`. curve: of a guard; worst: None where no form has a drop.
    """

    method: str
    parameters: Mapping[str, Any]
    skills: tuple[SkillResult, ...]
    over_refusal: float | None
    sweep: tuple[Candidate, ...]
    control: ControlAnswer
    robustness: tuple[FormResult, ...]
    curve: CurveAnswer | None
    asked: tuple[AskedResult, ...]
    utility: Utility | None
    cut_off: float
    forms: tuple[FormAnswer, ...]
    worst: WorstForm | None
    verdict: Verdict

    @property
    def settings(self) -> MethodSettings:
        """The parameters that are read by name."""
        return read_odd_record(MethodSettings, self.parameters)

    @property
    def forget(self) -> SkillResult:
        """The skill that was to be forgotten."""
        return self.skills[0]

    @property
    def worst_retain_drop(self) -> float | None:
        """The largest relative drop of a retain skill; None where none has one."""
        drops = [skill.change.relative_drop for skill in self.skills[1:]]
        return max((drop for drop in drops if drop is not None), default=None)

    @property
    def evidence(self) -> MethodVerdict:
        """The verdict as pages, command line and reports show it."""
        found = read_method_verdict({"method": self.method, "verdict": write_record(self.verdict)})
        return found or MethodVerdict(self.method, self.verdict.reached, "", "", ())

    def to_document(self) -> dict[str, Any]:
        """As `unlearn --json` prints it and the store holds it; `read_method` reads it."""
        frontier = {
            "forget_drop": self.forget.change.relative_drop,
            "worst_retain_drop": self.worst_retain_drop,
        }
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "skills": [_write_skill(skill) for skill in self.skills],
            "over_refusal": self.over_refusal,
            "frontier": frontier,
            "sweep": [dict(one.facts) for one in self.sweep],
            "control": write_record(self.control),
            "robustness": [_write_form(one) for one in self.robustness],
            "curve": self.curve and self.curve.to_document(),
            "asked": [write_record(one) for one in self.asked],
            "utility": self.utility and _write_utility(self.utility),
            "cut_off": self.cut_off,
            "forms": [one.to_document() for one in self.forms],
            "worst": self.worst and write_record(self.worst),
            "verdict": write_record(self.verdict),
        }


@dataclass(frozen=True)
class UnlearningAnswer:
    """The answer to a question. methods: those that are done. cached: whether all of it had been stored."""

    run: str
    forget: str
    split: SplitAnswer
    methods: tuple[MethodAnswer, ...]
    cached: bool = True
    seconds: float = 0.0

    @property
    def document(self) -> dict[str, Any]:
        """What `to_document` returns."""
        return self.to_document()

    def to_document(self) -> dict[str, Any]:
        """As `unlearn --json` prints it; `read_unlearning` reads it."""
        return {
            "forget": self.forget,
            "split": write_record(self.split),
            "methods": [method.to_document() for method in self.methods],
            "run": self.run,
            "cached": self.cached,
        }


def _write_skill(skill: SkillResult) -> dict[str, Any]:
    parts = {"unseen": skill.unseen, "seen": skill.seen}
    return (
        {"skill": skill.skill, "role": skill.role}
        | write_record(skill.change)
        | {name: _write_change(part) for name, part in parts.items()}
        | {"kl": {"median": skill.divergence.kl_median, "mean": skill.divergence.kl_mean}}
        | {"js": skill.divergence.js}
    )


def _write_form(found: FormResult) -> dict[str, Any]:
    return {"form": found.form, "lang": found.lang or None} | write_record(found.change)


def _write_utility(utility: Utility) -> dict[str, Any]:
    ends = utility.perplexity_interval
    return {
        "mmlu": _write_change(utility.mmlu),
        "perplexity_ratio": utility.perplexity_ratio,
        "perplexity_interval": ends and list(ends),
        "kl": utility.kl_median,
        "n": utility.n,
    }


def _write_change(change: Change | None) -> dict[str, Any] | None:
    return None if change is None else write_record(change)
