"""The limit on an answer's tokens, raised by itself where the unchanged model's answers are cut off by it
(METHODS §4, Evaluation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.items import SkillItem
from analysis.skills.tasks import MeasuredItems, MeasureOptions, measure_items

MOST_CUT_OFF = 0.1
"""Largest share of a skill's answers that may be cut off without a warning."""

LONGEST, DOUBLINGS = 160, 2
"""Largest limit to which it is raised, in tokens, and how often it is doubled at most."""

WORTH = 0.9
"""A doubled limit is kept only if it leaves at most this share of what was cut off before."""


def answer_within_limit(
    loaded: LoadedModel,
    skills: Mapping[str, Sequence[SkillItem]],
    ways: MeasureOptions,
    pulse: Pulse = lambda done, total: None,
) -> tuple[dict[str, MeasuredItems], int]:
    """Measure skills on the unchanged model; returns them, and the limit on new tokens with which.

    The limit of `ways` is doubled, DOUBLINGS times and up to LONGEST, as long as more than MOST_CUT_OFF of a
    skill's answers are cut off; of these limits the largest that lets some of them end is kept. Only what
    was cut off is answered again: a greedy answer that ended is the same under any larger limit.
    """
    found = {name: measure_items(loaded, items, (), ways, pulse) for name, items in skills.items()}
    kept, limit, longest = found, ways.max_new_tokens, max(ways.max_new_tokens, LONGEST)
    for _ in range(DOUBLINGS):
        longer = replace(ways, max_new_tokens=min(2 * ways.max_new_tokens, longest))
        if longer == ways or all(one.cut_off <= MOST_CUT_OFF for one in found.values()):
            break
        ways, found = longer, {n: _answer_longer(loaded, one, longer, pulse) for n, one in found.items()}
        if any(_helps(kept[name], found[name]) for name in found):
            kept, limit = found, ways.max_new_tokens
    return kept, limit


def foresee_limits(lengths: Sequence[Sequence[int]], limit: int) -> tuple[int, ...]:
    """The limit that `answer_within_limit` would keep, and behind it those that it would try before.

    lengths: of some answers of each skill, in tokens, as far as the largest limit lets them go.
    """
    longest, tried, kept = max(limit, LONGEST), [limit], limit
    shares = [_cut_off(skill, limit, longest) for skill in lengths]
    best = shares
    for _ in range(DOUBLINGS):
        longer = min(2 * tried[-1], longest)
        if longer == tried[-1] or all(share <= MOST_CUT_OFF for share in shares):
            break
        tried.append(longer)
        shares = [_cut_off(skill, longer, longest) for skill in lengths]
        if any(_is_worth(*pair) for pair in zip(best, shares, strict=True)):
            best, kept = shares, longer
    return kept, *tried[1:]


def _cut_off(lengths: Sequence[int], limit: int, longest: int) -> float:
    return sum(length > limit or length >= longest for length in lengths) / len(lengths)


def _is_worth(before: float, after: float) -> bool:
    return before > MOST_CUT_OFF and after <= WORTH * before


def _helps(before: MeasuredItems, after: MeasuredItems) -> bool:
    return _is_worth(before.cut_off, after.cut_off)


def _answer_longer(
    loaded: LoadedModel, measured: MeasuredItems, ways: MeasureOptions, pulse: Pulse
) -> MeasuredItems:
    """The same examples, those with a cut off answer measured again."""
    cut = [i for i, verdict in enumerate(measured.verdicts) if verdict.cut_off]
    items = [measured.items[i] for i in cut]
    again = measure_items(loaded, items, (), ways, lambda done, total: pulse(0, 0)).verdicts
    new = dict(zip(cut, again, strict=True))
    verdicts = tuple(new.get(i, verdict) for i, verdict in enumerate(measured.verdicts))
    return replace(measured, verdicts=verdicts)
