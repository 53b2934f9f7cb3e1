"""How the skills of a question were split, as part of its answer."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.skills.splits import NearPair
from analysis.unlearning.scenes import Scene


@dataclass(frozen=True)
class SkillSplit:
    """Examples in each part of a skill. unseen_wordings: of the test; near_duplicates: pairs of prompts in
    the test and outside it; nearest: the most similar of them.
    """

    skill: str
    probe: int
    validation: int
    test: int
    unseen_wordings: int
    near_duplicates: int
    nearest: tuple[NearPair, ...]


@dataclass(frozen=True)
class SkillSplits:
    """How every skill was split."""

    seed: int
    skills: tuple[SkillSplit, ...]


@dataclass(frozen=True)
class SplitAnswer(SkillSplits):
    """The same, with how many questions used this test on this model."""

    test_opened: int = 0


def describe_split(scene: Scene) -> SkillSplits:
    """How every skill was split, and the near-duplicates between its parts."""
    skills = (
        SkillSplit(
            skill=split.skill,
            probe=len(split.probe),
            validation=len(split.validation),
            test=len(split.test),
            unseen_wordings=sum(split.unseen),
            near_duplicates=len(split.near),
            nearest=split.near[:3],
        )
        for split in scene.splits
    )
    return SkillSplits(scene.forget.seed, tuple(skills))
