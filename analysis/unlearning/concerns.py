"""What a scene's sets leave uncertain, said before anything is measured; nothing of it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.skills.items import SkillItem
from analysis.skills.splits import Split, find_near_duplicates
from analysis.unlearning.scenes import Scene

ENOUGH_WORDINGS = 4
"""From so many on a split holds some out, so that they can be measured unseen."""
MOST_COMPARED = 1000
"""Examples of each set that are searched for near-duplicates, evenly spaced."""
SHORTEST_HELD = 12
"""Characters of a prompt that is recognised within a longer one."""
WORTH_SAYING = 0.05
"""Share of a kept set's prompts that resemble prompts to be forgotten, from which it is said."""


def list_concerns(scene: Scene) -> tuple[str, ...]:
    """A sentence for each."""
    return (
        *_say_wordings(scene.forget),
        *(said for split in (*scene.retain, *scene.near) for said in _say_alike(scene.forget, split)),
        *(said for split in scene.splits for said in _say_languages(split)),
    )


def _say_wordings(forget: Split) -> Iterator[str]:
    count = len({item.wording for item in _list_items(forget)} - {""})
    if count < ENOUGH_WORDINGS:
        known = "one wording" if count < 2 else f"{count} wordings"
        yield (
            f"{forget.skill} has {known}: a method can learn the form in place of the skill, and no unseen "
            f"wording can be measured. Give the same facts in {ENOUGH_WORDINGS} wordings or more."
        )


def _say_alike(forget: Split, kept: Split) -> Iterator[str]:
    mine, theirs = (_spread(_list_items(split)) for split in (forget, kept))
    alike = {pair.other for pair in find_near_duplicates(mine, theirs)}
    alike |= {item.prompt for item in theirs if _holds_one(item.prompt, mine)}
    if theirs and len(alike) >= WORTH_SAYING * len({item.prompt for item in theirs}):
        yield (
            f"{len(alike)} prompts of {kept.skill}, which is to be kept, are nearly those of {forget.skill}, "
            f"such as {min(alike)[-60:]!r}: what is forgotten of one is lost of the other."
        )


def _holds_one(prompt: str, items: Sequence[SkillItem]) -> bool:
    """Whether a prompt is one of these behind a greeting or before an instruction."""
    folded = " ".join(prompt.casefold().split())
    wholes = (" ".join(item.prompt.casefold().split()) for item in items)
    return any(whole in folded for whole in wholes if len(whole) >= SHORTEST_HELD)


def _say_languages(split: Split) -> Iterator[str]:
    languages = sorted({item.lang for item in _list_items(split)})
    if len(languages) > 1:
        yield (
            f"{split.skill} mixes {len(languages)} languages ({', '.join(languages[:5])}): its numbers are "
            "means over all of them. Give each language as a skill of its own to tell them apart."
        )


def _list_items(split: Split) -> tuple[SkillItem, ...]:
    return (*split.probe, *split.validation, *split.test)


def _spread(items: Sequence[SkillItem]) -> list[SkillItem]:
    step = max(1.0, len(items) / MOST_COMPARED)
    return [items[int(i * step)] for i in range(min(len(items), MOST_COMPARED))]
