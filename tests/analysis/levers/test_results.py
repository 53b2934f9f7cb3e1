"""What is taken out of several levers, and what makes one count."""

from __future__ import annotations

import pytest

from analysis.levers.results import LeverSearch, choose_best, choose_single
from tests.analysis.levers.bench_made import lever


def search(*levers: object) -> LeverSearch:
    return LeverSearch(tuple(levers), None, (), (), 0.05)  # type: ignore[arg-type]


def test_the_fewest_neurons_that_suffice_are_taken_else_the_largest_log_odds() -> None:
    large, pair = lever(9.0, size=3, selection=0.999), lever(6.0, size=2, selection=0.992)
    other_pair, weak = lever(5.0, size=2, selection=0.995, first=5), lever(3.0, selection=0.95)
    assert choose_best([large, weak, other_pair, pair]) is pair
    assert choose_best([large, weak]) is large
    nearly = lever(4.0, size=2, selection=0.98)
    assert choose_best([weak, nearly]) is nearly
    assert choose_best([]) is None


def test_the_single_lever_is_the_one_neuron_with_the_largest_log_odds() -> None:
    one, other, pair = lever(3.0), lever(4.0, first=1), lever(9.0, size=2)
    assert choose_single([one, pair, other]) is other
    assert choose_single([pair]) is None


def test_one_neuron_is_preferred_where_it_suffices() -> None:
    single, pair = lever(3.0), lever(9.0, 0.99, size=2)
    assert search(single, pair).best is single
    assert search(lever(3.0, 0.5), pair).best is pair
    assert search(lever(3.0, 0.5), pair).steerable
    assert not search(lever(3.0, 0.5)).steerable
    assert search().best is None
    assert not search().steerable


def test_the_lever_to_take_is_listed_first_and_the_others_keep_their_order() -> None:
    single, pair, other = lever(3.0), lever(9.0, 0.99, size=2), lever(2.0, first=4)
    found = search(pair, other, single)
    assert found.best is single
    assert found.with_best_first().levers == (single, pair, other)
    assert search().with_best_first().levers == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"held_out": 0.89},
        {"controls": ()},
        {"controls": (0.1, 0.36)},
        {"neutral_kl": 0.11},
        {"collapse": True},
    ],
)
def test_a_lever_counts_only_if_nothing_speaks_against_it(changed: dict[str, object]) -> None:
    assert lever(3.0).steerable
    assert lever(3.0, collapse=None, controls=(0.349,), neutral_kl=0.1, held_out=0.9).steerable
    assert not lever(3.0, **changed).steerable  # type: ignore[arg-type]


def test_a_word_that_is_said_where_another_is_due_is_forced() -> None:
    assert lever(3.0, 0.9, specificity=0.46).anywhere
    assert not lever(3.0, 0.9, specificity=0.45).anywhere
    assert not lever(3.0, 0.9, specificity=None).anywhere
    assert lever(3.0).largest_control == 0.1
    assert lever(3.0, controls=()).largest_control is None
