"""Skill drafts: fetched from the Hub with mapped fields, and facts shown before they are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

from analysis.errors import SkillError
from analysis.skills.files import read_hub_skill
from analysis.skills.items import JUDGE_NAMES, JudgeName, Skill, SkillItem
from analysis.skills.splits import split_skill
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES
from workbench.skills.sources import SkillSource

MOST_ROWS = 2000
"""Rows read of a Hub data set; a few hundred are enough."""

FIRST = 50
"""Examples that a preview shows."""

_ALWAYS_ENOUGH = 400
"""With this many examples, the number of probes is certainly sufficient."""


@dataclass(frozen=True)
class HubRequest:
    """A Hub data set. fields: our names → its own, or templates such as `{question}`; none for known layouts.

    judge: of all examples, "" if the data has it. Raises SkillError for an unknown judge.
    """

    repository: str
    config: str = ""
    split: str = "test"
    fields: Mapping[str, str] | None = None
    judge: str = ""
    limit: int = MOST_ROWS

    def __post_init__(self) -> None:
        if not self.repository.strip():
            raise SkillError("name a Hub data set, such as openai/gsm8k")
        if self.judge and self.judge not in JUDGE_NAMES:
            raise SkillError(f"judge {self.judge!r} is unknown; choose {', '.join(JUDGE_NAMES)}")


def can_fetch() -> bool:
    """Whether the package that reads Hub data sets is installed."""
    return find_spec("datasets") is not None


def fetch_skill(
    asked: HubRequest, name: str, load: Callable[..., Iterable[Mapping[str, Any]]] | None = None
) -> Skill:
    """Fetch the first rows of a Hub data set as a skill. load: `datasets.load_dataset`, if not given.

    Raises SkillError where `datasets` is not installed, the data cannot be loaded or is not a skill.
    """
    fields = {ours: theirs for ours, theirs in (asked.fields or {}).items() if theirs.strip()}
    judge = cast(JudgeName, asked.judge) if asked.judge else None
    found = read_hub_skill(
        asked.repository.strip(),
        name=name,
        config=asked.config.strip() or None,
        split=asked.split.strip() or "test",
        fields=fields or None,
        judge=judge if fields else None,
        limit=asked.limit,
        load=load,
    )
    if judge is None or fields:
        return found
    return replace(found, items=tuple(replace(item, judge=judge) for item in found.items))


@dataclass(frozen=True)
class SkillFacts:
    """Facts about a skill, shown before it is stored. first: the first of its examples."""

    told: str
    first: tuple[SkillItem, ...]


@lru_cache(maxsize=16)
def read_skill_facts(source: SkillSource) -> SkillFacts:
    """The facts of a skill, cached until its examples change. Raises SkillError."""
    skill = source.read()
    return SkillFacts(describe_skill(skill), skill.items[:FIRST])


def describe_skill(skill: Skill) -> str:
    """`360 examples, 140 groups, 38 wordings; judged by number (360)`."""
    judges = Counter(item.judge for item in skill.items).most_common()
    groups = len({item.group for item in skill.items})
    told = [_count(len(skill.items), "example"), _count(groups, "group")]
    told += [_count(len(skill.wordings), "wording")] if skill.wordings else []
    return f"{', '.join(told)}; judged by {', '.join(f'{name} ({n:,})' for name, n in judges)}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def explain_shortage(skill: Skill) -> str:
    """Why a skill would have too few probes; "" if there are enough."""
    if len(skill.items) >= _ALWAYS_ENOUGH:
        return ""
    probes = len(split_skill(skill).probe)
    if probes >= FEWEST_PROBES:
        return ""
    return (
        f"{probes} of these examples will be probes, the others are held out for validation and test; a key "
        "box "
        f"needs at least {FEWEST_PROBES} probes, so give more examples"
    )
