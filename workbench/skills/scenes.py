"""Scenes: skills referenced by file, read and split into probes and held-out parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

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


TRIED = (60, 120, 180, 240, 360, 480, 720)
"""Numbers of examples that are tried where a limit leaves too few."""


def advise_enough(
    source: SkillSource, limit: int, probes: int, needed: int, count_probes: Callable[[int], int]
) -> str:
    """How many examples would make enough probes: of those that there are, else at the rate at which those
    used became probes. count_probes: of a limit, 0 for all.
    """
    whole = len(source.read().items)
    used = min(limit, whole) if limit else whole
    for more in TRIED:
        if used < more < whole and count_probes(more) >= needed:
            return f"use {more} of its {whole}"
    if used < whole and count_probes(0) >= needed:
        return f"use all of its {whole}"
    if not probes:
        return "give it more examples"
    return f"give about {10 * math.ceil(used * needed / probes / 10)} in these wordings"
