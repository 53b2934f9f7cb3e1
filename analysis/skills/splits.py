"""Splits into probe, validation and test, by group and seed: no fact or template is in two parts.

Wordings can be held out too: then probes come in some wordings, validation in those and others, and a test
that counts in wordings that neither has seen. Near-duplicates between parts are found and reported.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.errors import SkillError
from analysis.skills.items import Skill, SkillItem

FRACTIONS = (0.4, 0.2, 0.4)
"""Shares of the groups: probe, validation, test."""

WORDING_FRACTIONS = (0.5, 0.25, 0.25)
"""Shares of the wordings: probes, validation only, test only."""

NEAR = 0.8
"""Jaccard similarity of word pairs from which two prompts are near-duplicates."""

_SHINGLE = 2


@dataclass(frozen=True)
class NearPair:
    """Two prompts of different parts with the Jaccard similarity of their word pairs, in [NEAR, 1]."""

    one: str
    other: str
    similarity: float


@dataclass(frozen=True)
class Split:
    """A skill's examples in three parts; no group is in two of them.

    test: all of its groups; `unseen` holds those in wordings that neither probe nor validation has, `seen`
    the others. near: pairs of near-duplicates between probe or validation and test.
    """

    skill: str
    seed: int
    probe: tuple[SkillItem, ...]
    validation: tuple[SkillItem, ...]
    test: tuple[SkillItem, ...]
    unseen: tuple[bool, ...]
    near: tuple[NearPair, ...]


def split_skill(
    skill: Skill,
    *,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    hold_wordings: bool = True,
) -> Split:
    """Split a skill by group; the same seed gives the same split whatever the order of the examples.

    hold_wordings: keep half of the wordings for probes, a quarter each for validation and test alone, where
    the skill has at least 4. Raises SkillError for invalid fractions.
    """
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise SkillError(f"split fractions {fractions}: give three shares that sum to 1, as {FRACTIONS}")
    group_of = _merge_groups(skill.items)
    groups = _cut(set(group_of), fractions, seed)
    wordings = _cut(set(skill.wordings), WORDING_FRACTIONS, seed) if len(skill.wordings) >= 4 else {}
    parts: tuple[list[SkillItem], ...] = ([], [], [])
    unseen = []
    for item, group in zip(skill.items, group_of, strict=True):
        part, wording = groups[group], wordings.get(item.wording, 0) if hold_wordings else 0
        if part == 2:
            unseen.append(wording == 2)
        if part == 2 or wording <= part:
            parts[part].append(item)
    near = find_near_duplicates([*parts[0], *parts[1]], parts[2])
    probe, validation, test = (tuple(part) for part in parts)
    return Split(skill.name, seed, probe, validation, test, tuple(unseen), near)


def _merge_groups(items: Sequence[SkillItem]) -> list[str]:
    """Each item's group; groups that share a prompt (ignoring case and spaces) are merged."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for item in items:
        one, other = root(first.setdefault(_fold(item.prompt), item.group)), root(item.group)
        parent[max(one, other)] = min(one, other)
    return [root(item.group) for item in items]


def _cut(names: set[str], fractions: tuple[float, float, float], seed: int) -> dict[str, int]:
    """The part of each name, in an order determined by seed and names alone."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    first, second = (round(sum(fractions[:end]) * len(order)) for end in (1, 2))
    return {name: (index >= first) + (index >= second) for index, name in enumerate(order)}


def find_near_duplicates(
    ones: Sequence[SkillItem], others: Sequence[SkillItem], threshold: float = NEAR
) -> tuple[NearPair, ...]:
    """Pairs (one, other) of prompts at least this similar, most similar first; exact, by prefix filtering."""
    sets = [_shingles(item.prompt) for item in (*ones, *others)]
    counts = Counter(shingle for found in sets for shingle in found)
    ordered = [sorted(found, key=lambda s: (counts[s], s)) for found in sets]
    index: dict[str, list[int]] = defaultdict(list)
    for number in range(len(ones)):
        for shingle in _prefix(ordered[number], threshold):
            index[shingle].append(number)
    pairs = []
    for number in range(len(ones), len(sets)):
        candidates = {i for shingle in _prefix(ordered[number], threshold) for i in index[shingle]}
        for candidate in candidates:
            both = len(sets[number] & sets[candidate])
            similarity = both / (len(sets[number]) + len(sets[candidate]) - both)
            if similarity >= threshold:
                pairs.append(NearPair(ones[candidate].prompt, others[number - len(ones)].prompt, similarity))
    return tuple(sorted(pairs, key=lambda pair: (-pair.similarity, pair.one, pair.other)))


def find_shared_prompts(one: Iterable[SkillItem], other: Iterable[SkillItem]) -> list[str]:
    """Prompts that two skills share, ignoring case and spaces."""
    known = {_fold(item.prompt) for item in one}
    return sorted({item.prompt for item in other if _fold(item.prompt) in known})


def _prefix(ordered: Sequence[str], threshold: float) -> Sequence[str]:
    """The rarest shingles; two sufficiently similar sets share at least one."""
    return ordered[: len(ordered) - math.ceil(threshold * len(ordered)) + 1]


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def _shingles(text: str) -> set[str]:
    """Pairs of adjacent words; numbers are words."""
    words = re.findall(r"\w+", _fold(text))
    pairs = {" ".join(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)}
    return pairs or set(words) or {text}
