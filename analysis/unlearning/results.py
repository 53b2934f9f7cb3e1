"""Records of an evaluation: settings, baselines and results; computed in `evaluating.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.intervening.interventions import Change
from analysis.skills.items import Skill
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import Divergence
from analysis.skills.tasks import MeasuredItems, MeasureOptions
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_guards import Check
from analysis.unlearning.scenes import Method

Role = Literal["forget", "retain"]


@dataclass(frozen=True)
class FitSettings:
    """How methods are fitted and measured. rivals: boxes of the retain skills compete with those of the
    forget skill. shares: q in %. controls: also boxes of shuffled skills, or as many random neurons.
    robustness: also other forms of the forget skill; other_languages: the skill in other languages, for that.
    """

    layers: LayerChoice | tuple[int, ...] = "best"
    rivals: bool = True
    check_at: Check = "prefill"
    shares: tuple[float, ...] = SHARES
    as_released: bool = False
    seed: int = 0
    ways: MeasureOptions = field(default_factory=MeasureOptions)
    controls: bool = True
    robustness: bool = True
    other_languages: tuple[Skill, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Every skill of a scene on the unchanged model, on validation and on the test; by name."""

    validation: Mapping[str, MeasuredItems]
    test: Mapping[str, MeasuredItems]


@dataclass(frozen=True)
class SkillResult:
    """One skill under a method. unseen: the test in wordings that no probe has; seen: in the others."""

    skill: str
    role: Role
    change: SkillChange
    unseen: SkillChange | None
    seen: SkillChange | None
    divergence: Divergence


@dataclass(frozen=True)
class FormResult:
    """The forget skill in another form (`robustness.py`), before and after. lang: the form's language, if it
    is one.
    """

    form: str
    change: SkillChange
    lang: str = ""


@dataclass(frozen=True)
class MethodResult:
    """A method's test. over_refusal: share of the retain skills' test prompts refused; None: no
    retain skill. sweep: the candidates on validation. control: relative drop per skill under the control."""

    method: Method
    parameters: dict[str, Any]
    interventions: tuple[Change, ...]
    skills: tuple[SkillResult, ...]
    over_refusal: float | None
    sweep: tuple[dict[str, Any], ...]
    control: dict[str, float | None]
    robustness: tuple[FormResult, ...]
    curve: dict[str, list[float]]
