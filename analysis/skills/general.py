"""General questions: everyday ones and short facts of many kinds, which a guard of any skill should let pass.

They are for fitting alone. What a result says of general questions must be measured on others.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from analysis.reading.questions import list_questions
from analysis.skills.items import SkillItem
from analysis.skills.splits import find_shared_prompts

NAME = "general questions"
"""Their name beside skills."""

FACTS = Path(__file__).parent / "general.txt"
"""Question | answer, one a line."""


@cache
def list_general_questions() -> tuple[SkillItem, ...]:
    """The shipped questions: facts with their answers, then everyday questions, which have none."""
    lines = FACTS.read_text(encoding="utf-8").splitlines()
    facts = [line.split(" | ") for line in lines if line.strip()]
    known = [SkillItem(prompt, answer) for prompt, answer in facts]
    return (*known, *(SkillItem(prompt, "", "perplexity") for prompt in list_questions()))


def select_general_questions(asked: Iterable[SkillItem]) -> tuple[SkillItem, ...]:
    """Those that are not among the prompts that are asked otherwise, ignoring case and spaces."""
    shared = set(find_shared_prompts(asked, list_general_questions()))
    return tuple(item for item in list_general_questions() if item.prompt not in shared)
