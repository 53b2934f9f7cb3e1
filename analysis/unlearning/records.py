"""What a method of unlearning is: a record. `methods.py` has them; all other code reads its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.intervening.interventions import Change
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.unlearning.passes import ExamplePass
from analysis.unlearning.results import Baseline, FitSettings
from analysis.unlearning.scenes import Scene


@dataclass(frozen=True)
class FittedMethod:
    """A method set on validation. chosen: the intervention; None: no candidate is eligible, and
    `parameters["why"]` says why. sweep: the candidates on validation. control: the same on what should not
    matter. curve: shares of every test refused, at each point of a curve; empty for a method that refuses
    nothing.
    """

    chosen: Change | None
    parameters: dict[str, Any]
    sweep: tuple[dict[str, Any], ...] = ()
    control: Change | None = None
    curve: Mapping[str, list[float]] = field(default_factory=dict)


Fit = Callable[[LoadedModel, Scene, FitSettings, Baseline, Pulse], FittedMethod]
"""Fits on probes and sets on validation. Raises TooFewExamples, SkillError."""


@dataclass(frozen=True)
class UnlearningMethod:
    """A method. name: in commands and documents; title: beside numbers; version: of its maths, part of a
    run's key. list_fits: the passes of one fit. control: what its control is; refits: the control is a fit of
    its own. abstains: it refuses whole queries, where the plan has it check prompts without a change to any
    other answer. retains: it compares with retain skills, so it needs one. fewest_probes: of the forget
    skill. why_not: why a model does not offer it, or "". check: raise SkillError for a plan that cannot work.
    scripted, baked: it can be written as a script, or into the weights.
    """

    name: str
    title: str
    version: str
    fit: Fit
    list_fits: Callable[[Scene, FitSettings], Iterable[ExamplePass]]
    control: str
    refits: bool = False
    abstains: bool = False
    retains: bool = False
    fewest_probes: int = 0
    why_not: Callable[[LoadedModel], str] = lambda loaded: ""
    check: Callable[[LoadedModel, FitSettings], None] = lambda loaded, plan: None
    scripted: bool = False
    baked: bool = False

    def only_reads(self, plan: FitSettings) -> bool:
        """Whether, under a plan, what it lets pass is answered as by the unchanged model."""
        return self.abstains and plan.check_at == "prefill"
