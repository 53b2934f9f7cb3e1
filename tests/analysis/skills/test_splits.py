"""No group and no text straddles a split; the seed alone decides; near-duplicates are found."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import SkillError
from analysis.skills.items import Skill, SkillItem
from analysis.skills.splits import find_near_duplicates, split_skill
from tests.analysis.skills_made import make_skill


def groups(items: tuple[SkillItem, ...]) -> set[str]:
    return {item.group for item in items}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 60))
def test_no_group_is_in_two_parts(seed: int, count: int) -> None:
    split = split_skill(make_skill("s", count), seed=seed)
    parts = [groups(part) for part in (split.probe, split.validation, split.test)]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert len(split.test) == len(split.unseen)


def test_the_order_of_the_examples_changes_nothing() -> None:
    skill = make_skill("s")
    mixed = list(skill.items)
    Random(0).shuffle(mixed)
    one, other = split_skill(skill), split_skill(replace(skill, items=tuple(mixed)))
    assert (set(one.probe), set(one.validation), set(one.test)) == tuple(
        set(part) for part in (other.probe, other.validation, other.test)
    )


def test_another_seed_is_another_split() -> None:
    assert split_skill(make_skill("s"), seed=0).test != split_skill(make_skill("s"), seed=1).test


def test_wordings_of_the_unseen_test_are_in_no_other_part() -> None:
    split = split_skill(make_skill("s", wordings=8))
    unseen = {item.wording for item, flag in zip(split.test, split.unseen, strict=True) if flag}
    known = {item.wording for item in (*split.probe, *split.validation)}
    assert unseen
    assert not unseen & known
    assert {item.wording for item in split.probe} < known


def test_wordings_can_be_left_as_they_are() -> None:
    split = split_skill(make_skill("s", wordings=8), hold_wordings=False)
    assert len({item.wording for item in split.probe}) == 8
    assert not any(split.unseen)


def test_the_same_text_under_two_groups_stays_together() -> None:
    items = [SkillItem(f"the same  Question {i}", "a", group=f"one-{i}") for i in range(20)]
    items += [SkillItem(f"THE same question {i}", "a", group=f"two-{i}") for i in range(20)]
    split = split_skill(Skill("s", tuple(items)))
    for part in (split.probe, split.validation, split.test):
        names = groups(part)
        assert {name.replace("one", "two") for name in names} == {n.replace("one", "two") for n in names}
        assert all(f"two-{name[4:]}" in names for name in names if name.startswith("one"))


def test_near_duplicates_are_found_and_nothing_else() -> None:
    text = "the quick brown fox jumps over the lazy dog near the old river bank today"
    near = find_near_duplicates(
        [SkillItem(text, "a"), SkillItem("something else altogether is written here", "a")],
        [SkillItem(text + " again", "a"), SkillItem("nothing of the kind was ever said before now", "a")],
    )
    assert [(pair.one, pair.other) for pair in near] == [(text, text + " again")]
    assert near[0].similarity == pytest.approx(14 / 15)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1.0))
def test_the_filter_finds_what_comparing_all_pairs_finds(seed: int, threshold: float) -> None:
    random = Random(seed)
    ones, others = (
        [SkillItem(" ".join(random.choices("abcd", k=random.randint(1, 6))), "x") for _ in range(12)]
        for _ in range(2)
    )

    def pairs(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[i : i + 2]) for i in range(len(words) - 1)} or set(words)

    expected = sorted(
        (a.prompt, b.prompt)
        for a in ones
        for b in others
        if len(pairs(a.prompt) & pairs(b.prompt)) / len(pairs(a.prompt) | pairs(b.prompt)) >= threshold
    )
    assert sorted((p.one, p.other) for p in find_near_duplicates(ones, others, threshold)) == expected


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(SkillError, match="three shares that sum to 1"):
        split_skill(make_skill("s"), fractions=(0.5, 0.5, 0.5))
