"""Scenes: one forget skill and the retain skills; fitted on probes, set on validation, measured once on the
test.

A *scene* holds the splits of one forget skill and of the retain skills. Each method gives candidates (layers,
α and margin of a guard, a share q of neurons); validation chooses one; only that one is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.forms import Form, select_fitting
from analysis.skills.general import NAME as GENERAL
from analysis.skills.items import Skill, SkillItem
from analysis.skills.splits import Split, find_shared_prompts
from analysis.skills.unrelated import NAME as UNRELATED

METHOD_VERSION = "5"


@dataclass(frozen=True)
class Scene:
    """One forget skill and retain skills. near: questions on the same subject, other relations: their probes
    may be fitted on, and only whether they are answered counts. unlisted: sets that no fit sees.

    Raises SkillError if the forget skill is also one of the others.
    """

    forget: Split
    retain: tuple[Split, ...]
    near: tuple[Split, ...] = ()
    unlisted: tuple[Skill, ...] = ()

    def __post_init__(self) -> None:
        names = [self.forget.skill, *(split.skill for split in (*self.retain, *self.near))]
        names += [skill.name for skill in self.unlisted]
        if len(set(names)) < len(names):
            raise SkillError(
                f"two skills have the same name among {', '.join(names)}; give each its own name"
            )
        if taken := {GENERAL, UNRELATED} & set(names):
            raise SkillError(f"a skill is named {min(taken)!r}, as a set that ships; give it another name")
        mine = [*self.forget.probe, *self.forget.validation, *self.forget.test]
        others = {s.skill: (*s.probe, *s.validation, *s.test) for s in (*self.retain, *self.near)}
        for name, items in (others | {skill.name: skill.items for skill in self.unlisted}).items():
            both = find_shared_prompts(mine, items)
            if both:
                raise SkillError(
                    f"{len(both)} prompts of {self.forget.skill}, {both[0][:60]!r} first, are in "
                    f"{name} too, which is to be kept; remove them from one of the two"
                )

    def list_items(self) -> list[SkillItem]:
        """The examples of every set."""
        parts = [(s.probe, s.validation, s.test) for s in (*self.splits, *self.near)]
        found = [item for split in parts for part in split for item in part]
        return found + [item for skill in self.unlisted for item in skill.items]

    @property
    def splits(self) -> tuple[Split, ...]:
        """The forget skill's split first."""
        return (self.forget, *self.retain)


def encode_queries(
    loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None
) -> list[list[int]]:
    """Token ids of the prompts that fit into the context."""
    return select_fitting(loaded, items, form)[1]
