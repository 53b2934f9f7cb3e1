"""Records of an evaluation: settings, baselines and results; computed in `evaluating.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from analysis.intervening.interventions import Change
from analysis.skills.items import Skill
from analysis.skills.metrics import Change as SkillChange
from analysis.skills.metrics import Divergence, Interval
from analysis.skills.tasks import MeasuredItems, MeasureOptions
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_guards import Check, Measure
from analysis.unlearning.guards.key_places import KeyPlace

Role = Literal["forget", "retain"]
AskedRole = Literal["retain", "near", "unlisted", "prose"]
"""What must go on being answered: retain skills, near questions (same subject, other relation), sets that
no fit knows, and plain text."""


@dataclass(frozen=True)
class FitSettings:
    """How methods are fitted and measured. rivals: boxes of the retain skills compete with those of the
    forget skill. shares: q in %. controls: also boxes of shuffled skills, or as many random neurons.
    robustness: also other forms of the forget skill; other_languages: the skill in other languages, for
    that. measure, key, wrap: of a guard, see `guards/guard_fits.py`. mmlu: multiple choice whose accuracy is
    measured before and after, whatever the method.
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
    measure: Measure = "linear"
    key: KeyPlace = "both"
    wrap: bool = True
    mmlu: Skill | None = None


@dataclass(frozen=True)
class Baseline:
    """Every skill of a scene on the unchanged model, on validation and on the test; by name.

    max_new_tokens: the limit on answers with which they were measured, and methods are. mmlu: the multiple
    choice of the utility, if there is one.
    """

    validation: Mapping[str, MeasuredItems]
    test: Mapping[str, MeasuredItems]
    max_new_tokens: int
    mmlu: MeasuredItems | None = None

    @property
    def cut_off(self) -> float:
        """The largest share of a skill's answers on the test that ended at the limit, in [0, 1]."""
        return max(measured.cut_off for measured in self.test.values())


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
class AskedResult:
    """Queries that must go on being answered. refused: the share a guard refuses, in [0, 1]; kl_median: of
    next-token distributions, nats, over those answered (None: all refused). form: "" as asked, else a name of
    `robustness.py`.
    """

    role: AskedRole
    skill: str
    form: str
    n: int
    refused: float
    interval: Interval
    kl_median: float | None


@dataclass(frozen=True)
class Utility:
    """What a method costs in general, whatever was kept. mmlu: accuracy of multiple choice before and after;
    None: none was given. perplexity_ratio: changed / base over n neutral passages, those that a guard refuses
    left out; kl_median: nats, next tokens of these passages. All None where all are refused, or the
    tokenizer cannot write them.
    """

    mmlu: SkillChange | None
    perplexity_ratio: float | None
    perplexity_interval: Interval | None
    kl_median: float | None
    n: int


@dataclass(frozen=True)
class MethodResult:
    """A method's test. interventions: empty where no candidate is eligible. over_refusal: share of the
    retain skills' test prompts refused; None: no retain skill. sweep: the candidates on validation. control:
    relative drop per skill under the control. cut_off: largest share of a skill's answers that ended at the
    token limit, on the unchanged model.
    """

    method: str
    parameters: dict[str, Any]
    interventions: tuple[Change, ...]
    skills: tuple[SkillResult, ...]
    over_refusal: float | None
    sweep: tuple[dict[str, Any], ...]
    control: dict[str, float | None]
    robustness: tuple[FormResult, ...]
    curve: dict[str, list[float]]
    asked: tuple[AskedResult, ...] = ()
    utility: Utility | None = None
    cut_off: float = 0.0
