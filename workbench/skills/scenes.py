"""Scenes: skills referenced by file, read and split into probes and held-out parts."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.skills.splits import FRACTIONS, split_skill
from analysis.unlearning.scenes import Scene
from workbench.skills.sources import SkillSource


def read_scene(
    first: SkillSource,
    others: Sequence[SkillSource] = (),
    *,
    near: Sequence[SkillSource] = (),
    unlisted: Sequence[SkillSource] = (),
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    hold_wordings: bool = True,
    limit: int = 0,
) -> Scene:
    """Read the first skill and the others, each split. limit: of examples per skill, evenly spaced; 0 for
    all.

    Raises SkillError.
    """
    splits = [
        split_skill(source.read(limit), seed=seed, fractions=fractions, hold_wordings=hold_wordings)
        for source in (first, *others, *near)
    ]
    retain = splits[1 : 1 + len(others)]
    return Scene(
        splits[0],
        tuple(retain),
        tuple(splits[1 + len(others) :]),
        tuple(source.read(limit) for source in unlisted),
    )
