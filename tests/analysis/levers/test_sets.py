"""Sets of neurons on benches whose best answer is known."""

from __future__ import annotations

import math

import pytest

from analysis.levers.readings import Clamps
from analysis.levers.results import SUFFICIENT
from analysis.levers.search import NeuronSearch
from analysis.levers.sets import BEAM, EASED, ease_sets, improve_set, refine_values, search_sets
from tests.analysis.levers.bench_made import PretendBench, neurons, tried, value_of


def singles(*odds: float) -> list[NeuronSearch]:
    return [
        NeuronSearch(neurons(len(odds))[at], (tried(one, 2.0, first=at),), 1.0) for at, one in enumerate(odds)
    ]


def test_sets_grow_from_the_best_with_values_halved_or_kept() -> None:
    """Neurons 1 and 3 help each other at half their values; every other pair adds up to less."""

    def log_odds(row: Clamps) -> float:
        values = [value_of(row, at) for at in range(5)]
        together = 10.0 if (values[1], values[3]) == (1.0, 2.0) else 0.0
        return together + sum(values) / 10 - (5 if values[4] else 0)

    made = PretendBench(log_odds)
    found = search_sets(made.bench, singles(5, 4, 3, 2, 1), 3)
    assert [one.log_odds for one in found] == sorted((one.log_odds for one in found), reverse=True)
    pairs = [one for one in found if len(one.clamps) == 2]
    assert [(c.address.neuron, c.value) for c in pairs[0].clamps] == [(1, 1.0), (3, 2.0)]
    assert {len(one.clamps) for one in found} == {2, 3}
    for row in made.rows:
        names = [one.address for one in row]
        assert names == sorted(set(names))
        assert {abs(one.value or 0.0) for one in row} <= {2.0, 1.0, 0.5}
    assert len(made.rows) == len(set(made.rows))
    members = [tuple(one.address for one in one.clamps) for one in found]
    assert len(members) == len(set(members))
    assert all(names == tuple(sorted(names)) for names in members)


def test_sets_are_no_larger_than_asked_and_need_two_neurons() -> None:
    made = PretendBench(lambda row: float(len(row)))
    assert search_sets(made.bench, singles(5, 4, 3), 1) == []
    assert made.rows == []
    assert {len(one.clamps) for one in search_sets(made.bench, singles(5, 4, 3), 2)} == {2}
    assert search_sets(made.bench, singles(5), 3) == []
    assert search_sets(made.bench, [], 3) == []
    largest = search_sets(made.bench, singles(*range(9, 0, -1)), 4)
    assert max(len(one.clamps) for one in largest) == 4
    assert {one.clamps[0].address.neuron for one in largest if len(one.clamps) == 2} <= set(range(BEAM))


def test_a_set_that_more_than_suffices_gets_the_smallest_values_that_do() -> None:
    made = PretendBench(lambda row: 6.0 * value_of(row, 0))
    enough = math.log(SUFFICIENT / (1 - SUFFICIENT))
    strong, weak = tried(12.0, 2.0, 1.0), tried(0.6, 0.1, 1.0, first=0)
    eased = ease_sets(made.bench, [strong, weak])
    factor = min(by for by in EASED if 12.0 * by >= enough)
    assert [one.value for one in eased[0].clamps] == [2.0 * factor, factor]
    assert eased[0].log_odds == pytest.approx(12.0 * factor)
    assert eased[1] == weak
    assert ease_sets(made.bench, []) == []


def test_values_are_refined_one_by_one_as_long_as_that_helps() -> None:
    made = PretendBench(lambda row: -abs(value_of(row, 0) - 8.0) - abs(value_of(row, 1) - 0.5))
    start = tried(-6.5, 2.0, 1.0, first=0)
    (found,) = refine_values(made.bench, [start])
    assert [one.value for one in found.clamps] == [8.0, 0.5]
    assert found.log_odds == 0.0
    at_best = tried(0.0, 8.0, 0.5, first=0)
    assert refine_values(made.bench, [at_best]) == [at_best]


def test_a_member_is_exchanged_for_a_neuron_that_does_more_beside_the_others() -> None:
    """Neuron 4 does little alone and much beside neuron 0, which greedy growth from the best leaves out."""

    def log_odds(row: Clamps) -> float:
        values = [value_of(row, at) for at in range(6)]
        return values[0] + values[1] + (20.0 if values[0] and values[4] == 1.0 else 0.0)

    made = PretendBench(log_odds)
    start = tried(4.0, 2.0, 2.0, first=0)
    best = improve_set(made.bench, start, [one.best for one in singles(5, 4, 3, 2, 1, 0)])
    assert [one.address.neuron for one in best.clamps] == [0, 4]
    assert best.log_odds > 20
    nothing = improve_set(PretendBench(lambda row: -1.0 * len(row)).bench, tried(0.0, 2.0, 2.0), [])
    assert nothing.log_odds == 0.0
