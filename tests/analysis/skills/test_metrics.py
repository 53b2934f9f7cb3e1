"""Drops, intervals and divergences against hand-made cases and an independent computation."""

from __future__ import annotations

import math

import pytest
import torch

from analysis.skills.items import SkillItem
from analysis.skills.metrics import measure_change, measure_damage, measure_divergence, wilson_interval
from analysis.skills.tasks import ItemVerdict, MeasuredItems


def measured(rights: list[bool], per_group: int = 1, refused: bool = False) -> MeasuredItems:
    items = tuple(SkillItem(f"q{i}", "a", group=f"g{i // per_group}") for i in range(len(rights)))
    return MeasuredItems(items, tuple(ItemVerdict(r, refused and not r) for r in rights), 0)


def test_a_relative_drop_is_the_share_of_accuracy_lost() -> None:
    before, after = measured([True] * 80 + [False] * 20), measured([True] * 20 + [False] * 80, refused=True)
    change = measure_change(before, after)
    assert (change.before, change.after, change.n) == (0.8, 0.2, 100)
    assert change.relative_drop == pytest.approx(0.75)
    assert change.abstained == 0.8
    assert change.interval is not None
    low, high = change.interval
    assert 0.6 < low < 0.75 < high < 0.9
    assert change.warning == ""
    assert measure_damage(change) == change.relative_drop


def test_a_skill_that_was_not_there_has_no_drop() -> None:
    items = tuple(SkillItem(f"q{i}", "0", "choice", choices=("a", "b")) for i in range(100))
    before, after = (
        MeasuredItems(items, tuple(ItemVerdict(i < right, False) for i in range(100)), 0)
        for right in (58, 10)
    )
    change = measure_change(before, after)
    assert change.chance == 0.5
    assert change.relative_drop is None
    assert change.interval is None
    assert measure_damage(change) is None
    assert "not above chance (0.500)" in change.warning
    above = MeasuredItems(items, tuple(ItemVerdict(i < 75, False) for i in range(100)), 0)
    corrected = measure_change(
        above, MeasuredItems(items, tuple(ItemVerdict(i < 50, False) for i in range(100)), 0)
    )
    assert corrected.corrected_drop == pytest.approx(1.0)
    assert corrected.relative_drop == pytest.approx(1 / 3)


def test_at_the_ends_an_interval_is_wilsons() -> None:
    change = measure_change(measured([True] * 50), measured([False] * 50))
    assert change.before_interval == wilson_interval(1.0, 50)
    assert change.after_interval == wilson_interval(0.0, 50)
    assert change.relative_drop == 1.0
    assert change.interval is not None
    assert list(change.interval) == pytest.approx([1 - wilson_interval(0.0, 50)[1], 1.0])
    same = measure_change(measured([True] * 50), measured([True] * 50))
    assert same.interval is not None
    assert same.interval[0] < 0 < same.interval[1]


def test_wilson_is_the_published_interval() -> None:
    # 10 of 50, 95 %: Newcombe 1998, method 3, by hand
    p, n, z = 0.2, 50, 1.959963984540054
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson_interval(0.2, 50) == pytest.approx(
        ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    )
    assert wilson_interval(0.5, 0) == (0.0, 1.0)


def test_wordings_of_one_fact_count_once() -> None:
    rights = [True, True, True, True] * 10 + [False] * 40
    alone, grouped = (measure_change(measured(rights, size), measured(rights, size)) for size in (1, 4))
    assert alone.before_interval is not None
    assert grouped.before_interval is not None
    widths = [high - low for low, high in (alone.before_interval, grouped.before_interval)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.25)


def test_the_same_examples_are_drawn_before_and_after() -> None:
    before = measured([True, False] * 50)
    after = measured([True, False, False, False] * 25)
    unpaired = measure_change(before, measured([False] * 50 + [True, True] * 25)).interval
    paired = measure_change(before, after).interval
    assert paired is not None
    assert unpaired is not None
    assert paired[1] - paired[0] < unpaired[1] - unpaired[0]


def test_before_and_after_must_be_of_the_same_examples() -> None:
    with pytest.raises(ValueError, match="not of the same examples"):
        measure_change(measured([True]), measured([True, True]))


def test_perplexity_is_a_ratio_over_what_was_answered() -> None:
    items = tuple(SkillItem(f"text {i}", "", "perplexity") for i in range(2))
    before = MeasuredItems(
        items, (ItemVerdict(False, False, "", -10.0, 10), ItemVerdict(False, False, "", -10.0, 5)), 0
    )
    after = MeasuredItems(
        items, (ItemVerdict(False, False, "", -20.0, 10), ItemVerdict(False, True, "", -99.0, 5)), 0
    )
    change = measure_change(before, after)
    assert change.perplexity_ratio == pytest.approx(math.e)
    assert measure_damage(change) == pytest.approx(1 - 1 / math.e)
    assert (change.before, change.relative_drop, change.abstained) == (None, None, 0.5)


def test_divergence_is_that_of_the_formulas() -> None:
    torch.manual_seed(0)
    base, changed = (torch.randn(5, 7).log_softmax(-1) for _ in range(2))
    refused = torch.tensor([False, False, True, False, False])
    found = measure_divergence(base, changed, refused, 3)
    p, q = base.double().exp(), changed.double().exp()
    kl = (p * (p.log() - q.log())).sum(-1)[~refused]
    q[2] = 0.0
    q[2, 3] = 1.0
    m = (p + q) / 2
    js = (torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)).sum(-1) / 2
    assert found.n == 4
    assert found.kl_mean == pytest.approx(float(kl.mean()), rel=1e-6)
    assert found.kl_median == pytest.approx(float(kl.median()), rel=1e-6)
    assert found.js == pytest.approx(float(js.mean()), rel=1e-6)


def test_the_ends_of_divergence() -> None:
    base = torch.randn(3, 7).log_softmax(-1)
    none = torch.zeros(3, dtype=torch.bool)
    same = measure_divergence(base, base, none, 0)
    assert (same.kl_mean, same.js) == (0.0, 0.0)
    all_refused = measure_divergence(base, base, ~none, 0)
    assert (all_refused.n, all_refused.kl_mean) == (0, None)
    sure = torch.full((1, 7), -torch.inf)
    sure[0, 1] = 0.0
    assert measure_divergence(sure, sure, ~none[:1], 0).js == pytest.approx(math.log(2))
