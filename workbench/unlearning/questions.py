"""Questions about unlearning a skill: what to forget, what to retain, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from analysis.errors import SkillError
from analysis.skills.answering import NEW_TOKENS
from analysis.skills.splits import FRACTIONS
from analysis.skills.tasks import MeasureOptions
from analysis.skills.unit_tests import UnitTests
from analysis.unlearning.edits.selective_prune import SHARES
from analysis.unlearning.guards.guard_fits import LayerChoice
from analysis.unlearning.guards.key_guards import Check, Measure
from analysis.unlearning.guards.key_places import KeyPlace
from analysis.unlearning.methods import find_method, list_methods
from analysis.unlearning.results import FitSettings
from analysis.unlearning.robustness import check_languages
from analysis.unlearning.scenes import Scene
from workbench.records import read_record
from workbench.skills.scenes import read_scene
from workbench.skills.sources import SkillSource
from workbench.skills.utility import read_utility

SOURCES = ("retain", "other_language", "near", "unlisted", "mmlu")
"""The question's fields that are lists of skills."""


@dataclass(frozen=True)
class UnlearningQuestion:
    """What to forget, what to retain, and how.

    tests: off, contained (judge code in a container, or refuse), unsafe. limit: of examples per skill,
    evenly spaced; 0 for all. max_new_tokens: the limit to begin with, see `measure_baseline`. as_released:
    decide as the authors' code does, see `plan`. other_language: the forget skill in other languages, only
    measured before and after. near, unlisted: see `Scene`. mmlu: multiple choice, of which MMLU_SAMPLE
    examples are measured as utility. Raises SkillError for methods that do not exist, or the same one twice.
    """

    forget: SkillSource
    retain: tuple[SkillSource, ...] = ()
    methods: tuple[str, ...] = field(default_factory=list_methods)
    layers: LayerChoice | tuple[int, ...] = "best"
    rivals: bool = True
    check: Check = "prefill"
    shares: tuple[float, ...] = SHARES
    as_released: bool = False
    split_seed: int = 0
    seed: int = 0
    fractions: tuple[float, float, float] = FRACTIONS
    hold_wordings: bool = True
    limit: int = 0
    max_new_tokens: int = NEW_TOKENS
    tests: str = "off"
    controls: bool = True
    robustness: bool = True
    other_language: tuple[SkillSource, ...] = ()
    near: tuple[SkillSource, ...] = ()
    unlisted: tuple[SkillSource, ...] = ()
    mmlu: tuple[SkillSource, ...] = ()
    measure: Measure = "linear"
    key: KeyPlace | None = None
    wrap: bool | None = None

    def __post_init__(self) -> None:
        known = list_methods()
        if not self.methods or len(set(self.methods)) < len(self.methods) or set(self.methods) - set(known):
            raise SkillError(f"methods {', '.join(self.methods)}: choose of {', '.join(known)}, each once")
        if self.tests not in ("off", "contained", "unsafe"):
            raise SkillError(f"tests {self.tests!r}: choose off, contained or unsafe")
        if self.other_language and not self.robustness:
            raise SkillError(
                "another language is part of the robustness check, which is off; leave out one of the two"
            )
        guards = any(find_method(name).abstains for name in self.methods)
        if self.measure == "linear" and guards and not self.as_released:
            self._check_linear()

    def _check_linear(self) -> None:
        if not self.rivals:
            raise SkillError(
                "a linear guard is fitted to tell the skill from what is kept, so it needs rivals; choose "
                "the measure box for a guard without"
            )
        if self.check == "each_step":
            raise SkillError(
                "a linear guard is fitted on prompts, so it cannot check what is generated; choose the "
                "measure box, or prefill"
            )

    def document(self) -> dict[str, Any]:
        """As JSON; `read_question` reads it."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @property
    def plan(self) -> FitSettings:
        """How methods are fitted and measured. As released, a guard is a box of the last layer without
        rivals, checked at each step, and the model is asked one query at a time, whatever else is chosen.
        """
        plan = self._plan
        if not self.as_released:
            return plan
        return replace(
            plan,
            layers="last",
            rivals=False,
            check_at="each_step",
            measure="box",
            key="last",
            wrap=False,
            ways=replace(plan.ways, batch_size=1),
        )

    @property
    def _plan(self) -> FitSettings:
        """Every option as chosen. With nothing to tell the skill from, a guard is the paper's: a box."""
        tests = {"off": None, "contained": UnitTests(), "unsafe": UnitTests(unsafe=True)}[self.tests]
        measure = self.measure if self.retain or self.near else "box"
        return FitSettings(
            layers=self.layers,
            rivals=self.rivals,
            check_at=self.check,
            shares=self.shares,
            as_released=self.as_released,
            seed=self.seed,
            ways=MeasureOptions(max_new_tokens=self.max_new_tokens, tests=tests),
            controls=self.controls,
            robustness=self.robustness,
            other_languages=tuple(source.read(self.limit) for source in self.other_language),
            measure=measure,
            key=self.key or ("both" if measure == "linear" else "last"),
            wrap=measure == "linear" if self.wrap is None else self.wrap,
            mmlu=read_utility(self.mmlu),
        )

    def scene(self) -> Scene:
        """Read and split the skills. Raises SkillError."""
        scene = read_scene(
            self.forget,
            self.retain,
            near=self.near,
            unlisted=self.unlisted,
            seed=self.split_seed,
            fractions=self.fractions,
            hold_wordings=self.hold_wordings,
            limit=self.limit,
        )
        check_languages(scene.splits, self.plan.other_languages)
        return scene


def read_question(document: Mapping[str, Any]) -> UnlearningQuestion:
    """The question that `UnlearningQuestion.document` wrote; earlier versions' had boxes at the last
    token.
    """
    return read_record(UnlearningQuestion, {"measure": "box", **document})
