"""The multiple choice by which the utility of methods is measured, sampled from files."""

from __future__ import annotations

from functools import lru_cache

from analysis.errors import SkillError
from analysis.skills.items import Skill
from workbench.skills.sources import SkillSource

MMLU_SAMPLE = 200
"""Examples of the multiple choice that is measured as utility, evenly spaced over all."""


@lru_cache(maxsize=4)
def read_utility(sources: tuple[SkillSource, ...]) -> Skill | None:
    """MMLU_SAMPLE multiple-choice questions, evenly spaced over all of the files; None if there is none.

    The last few are cached in memory: a source names its contents. Raises SkillError if they are not multiple
    choice.
    """
    if not sources:
        return None
    items = [item for source in sources for item in source.read().items]
    if any(item.judge != "choice" for item in items):
        raise SkillError(
            f"{', '.join(source.name for source in sources)}: the utility sample is multiple choice; give "
            "files in MMLU's layout"
        )
    return Skill("MMLU sample", tuple(items)).subsample(MMLU_SAMPLE)
