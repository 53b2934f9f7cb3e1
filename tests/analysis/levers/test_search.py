"""The search for values on benches whose best answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from analysis.levers.grids import COARSE, FULL
from analysis.levers.neutral_effects import BOUND
from analysis.levers.search import (
    Admission,
    NeuronSearch,
    Tried,
    search_values,
    try_rows,
)
from tests.analysis.levers.bench_made import PretendBench, PretendNeutral, neurons, no_texts, tried, value_of

PERIODIC, PLAIN = (1, 2) * 10, tuple(range(20))


def peaks_at(best: dict[int, float]) -> PretendBench:
    """Each neuron raises the word by its number at its best value, and less beside it."""
    return PretendBench(
        lambda row: sum(
            one.address.neuron - abs((one.value or 0.0) - best[one.address.neuron]) for one in row
        )
    )


def test_every_neuron_gets_the_coarse_grid_and_the_best_the_full_one() -> None:
    best = dict.fromkeys(range(6), 2.0) | {5: -4.0, 4: -0.125}
    made = peaks_at(best)
    found = search_values(made.bench, neurons(6), 3)
    assert len(made.rows) == 6 * len(COARSE) + 3 * len(FULL)
    assert [search.address.neuron for search in found] == [5, 4, 3, 2, 1, 0]
    assert [len(search.tried) for search in found] == [len(FULL)] * 3 + [len(COARSE)] * 3
    assert [search.best.clamps[0].value for search in found[:3]] == [-4.0, -0.125, 2.0]
    assert found[0].best.log_odds == 5.0
    for search in found:
        odds = [one.log_odds for one in search.tried]
        assert odds == sorted(odds, reverse=True)
        assert {one.clamps[0].address for one in search.tried} == {search.address}
        assert search.reached == 1.0


def test_a_search_over_no_neuron_finds_none() -> None:
    assert search_values(PretendBench(lambda row: 0.0).bench, [], 3) == []
    assert try_rows(PretendBench(lambda row: 0.0).bench, [])[0] == []


def test_values_that_drive_the_model_to_nan_come_last() -> None:
    made = PretendBench(lambda row: -math.inf if value_of(row, 0) > 1 else value_of(row, 0))
    (found,) = search_values(made.bench, neurons(1), 1)
    assert found.best.clamps[0].value == 1.0
    assert found.tried[-1].log_odds == -math.inf


def admission(kl: dict[float, float], monkeypatch: pytest.MonkeyPatch, *texts: tuple[int, ...]) -> Admission:
    """KL by the value of the first clamp; texts of the base and of each row."""
    monkeypatch.setattr("analysis.levers.search.continue_rows", no_texts(*(texts or (PLAIN,))))
    neutral = PretendNeutral(lambda row: kl.get(row[0].value or 0.0, 0.0))
    return Admission(PretendBench(lambda row: 0.0).bench, neutral.text)


def test_clamps_that_change_neutral_text_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = admission({1.0: BOUND, 2.0: BOUND + 0.011, 4.0: math.nan}, monkeypatch)
    given = [tried(3.0, 1.0), tried(5.0, 2.0), tried(9.0, 4.0)]
    (admitted,) = judge.admit(given)
    assert (admitted.tried, admitted.neutral_kl, admitted.collapse) == (given[0], BOUND, False)
    assert judge.refused == {
        given[1].clamps: "neutral KL 0.11 nats, above 0.1",
        given[2].clamps: "neutral KL nan nats, above 0.1",
    }


def test_clamps_whose_text_repeats_itself_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = admission({}, monkeypatch, PLAIN, PLAIN, PERIODIC, (1, 2, 3))
    given = [tried(3.0, value) for value in (1.0, 2.0, 4.0)]
    found = judge.admit(given)
    assert [(one.tried, one.collapse) for one in found] == [(given[0], False), (given[2], None)]
    assert judge.refused == {given[1].clamps: "its text repeats itself (88% of its 4-grams)"}


def test_everything_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.levers.search.continue_rows", no_texts(PLAIN))
    neutral = PretendNeutral(lambda row: 1.0 if row[0].value == 2.0 else 0.0)
    judge = Admission(PretendBench(lambda row: 0.0).bench, neutral.text)
    given = [tried(3.0, 1.0), tried(5.0, 2.0)]
    assert judge.admit(given) == judge.admit(given[::-1])
    assert len(neutral.rows) == 2


def test_a_neuron_takes_its_best_value_that_leaves_other_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = admission({4.0: 1.0, 2.0: 1.0}, monkeypatch)

    def values(first: int, *pairs: tuple[float, float]) -> NeuronSearch:
        return NeuronSearch(
            neurons(9)[first], tuple(tried(odds, value, first=first) for odds, value in pairs), 1.0
        )

    searches = [
        values(0, (9.0, 4.0), (8.0, 2.0), (7.0, 1.0), (6.0, 0.5)),
        values(1, (5.0, 4.0), (0.5, 1.0)),
        values(2, (4.0, 0.5)),
        values(3, (1.0, 0.5)),
        replace(values(4, (1.1, 0.5)), reached=0.0),
    ]
    found = judge.admit_values(searches, above=1.0)
    assert [(one.tried.clamps[0].address.neuron, one.tried.clamps[0].value) for one in found] == [
        (0, 1.0),
        (2, 0.5),
    ]
    refused = [(clamps[0].address.neuron, clamps[0].value) for clamps in judge.refused]
    assert sorted(refused) == [(0, 2.0), (0, 4.0), (1, 4.0)]
    assert judge.admit_values([], 0.0) == []


def test_what_was_tried_keeps_its_clamps() -> None:
    made = PretendBench(lambda row: value_of(row, 0))
    rows = [tried(0.0, 1.0).clamps, tried(0.0, 2.0, 3.0).clamps]
    found, reached = try_rows(made.bench, rows)
    assert [one.clamps for one in found] == rows
    assert [one.log_odds for one in found] == [1.0, 2.0]
    assert found[0] == Tried(rows[0], 1.0, found[0].selection)
    assert found[0].selection == pytest.approx(1 / (1 + math.exp(-1)))
    assert reached.tolist() == [1.0, 1.0]


def test_what_was_left_out_is_listed_best_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.levers.search.continue_rows", no_texts(PLAIN))
    judge = Admission(PretendBench(lambda row: 0.0).bench, PretendNeutral(lambda row: 1.0).text)
    given = [tried(1.0, 2.0), tried(3.0, 2.0, 1.0), tried(2.0, -2.0)]
    judge.admit(given[:1])
    judge.admit(given)
    assert [clamps for clamps, _ in judge.list_refused()] == [given[at].clamps for at in (1, 2, 0)]
