"""Forget one skill, keep the others: fitted on probes, set on validation, measured once on the test.

A *scene* is one skill's split to forget and others' to keep. Each method gives candidates (layers, α and
margin of a guard, a share q of neurons); validation chooses one; only that one meets the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.skills.items import SkillItem
from analysis.skills.splits import Split, shared_prompts
from analysis.skills.tasks import Form, fitting

METHOD_VERSION = "2"
Method = Literal["ksd", "na", "sp"]
METHODS: tuple[Method, ...] = ("ksd", "na", "sp")


@dataclass(frozen=True)
class Scene:
    """One skill to forget and others to keep. Raises SkillError where one of these is the other."""

    forget: Split
    retain: tuple[Split, ...]

    def __post_init__(self) -> None:
        names = [self.forget.skill, *(split.skill for split in self.retain)]
        if len(set(names)) < len(names):
            raise SkillError(f"two skills have one name among {', '.join(names)}; name each differently")
        mine = [*self.forget.probe, *self.forget.validation, *self.forget.test]
        for split in self.retain:
            both = shared_prompts(mine, [*split.probe, *split.validation, *split.test])
            if both:
                raise SkillError(
                    f"{len(both)} prompts of {self.forget.skill}, {both[0][:60]!r} first, are in "
                    f"{split.skill} too, which is to be kept; take them out of one of the two"
                )

    @property
    def splits(self) -> tuple[Split, ...]:
        """The skill to forget first."""
        return (self.forget, *self.retain)


def queries(loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None) -> list[list[int]]:
    """Token ids of the prompts that fit into the context."""
    return fitting(loaded, items, form)[1]
