"""Values to hold neurons at: the grids, and how values are typed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from analysis.anatomy.addresses import parse_address
from analysis.errors import ClampError
from analysis.intervening.clamps import Scope, parse_clamp
from analysis.levers.grids import COARSE, FULL, MOST_VALUES, hold, parse_values, scale_values, spread_values


def test_the_full_grid_has_23_values_each_root_two_times_the_one_before() -> None:
    assert len(FULL) == len(set(FULL)) == 23
    above = sorted(value for value in FULL if value > 0)
    assert sorted(FULL) == [-value for value in reversed(above)] + [0.0, *above]
    assert (above[0], above[-1]) == (0.125, 4.0)
    assert [b / a for a, b in pairwise(above)] == pytest.approx([2**0.5] * 10)
    assert set(COARSE) < set(FULL)
    assert sorted(COARSE) == pytest.approx([-(2**0.5), -0.5, 0.5, 2**0.5])


def test_a_range_is_the_full_grid_between_its_ends() -> None:
    values, unit = parse_values("-4r..4r")
    assert (values, unit) == (tuple(sorted(FULL)), "residual")
    values, unit = parse_values(" 0..8x".replace("0..", "0x.."))
    assert unit == "max"
    assert values == pytest.approx(sorted(2 * value for value in FULL if value >= 0))
    assert parse_values("-3..1")[0][0] == -3.0
    assert parse_values("-3..1")[0][-1] == 1.0
    assert spread_values(2, 3)[0] == 2
    assert all(2 <= value <= 3 for value in spread_values(2, 3))
    assert parse_values("2r..2r")[0] == (2.0,)
    assert parse_values("0r..0r")[0] == (0.0,)


def test_values_are_taken_in_order_each_once() -> None:
    assert parse_values("-1r, 0.5r,2r,0.5r") == ((-1.0, 0.5, 2.0), "residual")
    assert parse_values("3") == ((3.0,), "raw")
    assert parse_values("8x,-8x") == ((8.0, -8.0), "max")
    assert parse_values("1e-3r") == ((0.001,), "residual")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1r,2x", "mixes units"),
        ("1r..2", "mixes units"),
        ("4r..-4r", "is empty; write the lower end first"),
        (
            ",".join(map(str, range(MOST_VALUES + 1))),
            f"has {MOST_VALUES + 1} values; give at most {MOST_VALUES}",
        ),
        ("", "is not a number"),
        ("1r,,2r", "is not a number"),
        ("much", "is not a number"),
        ("..4r", "is not a number"),
        ("-4r..", "is not a number"),
        ("nan", "is not finite"),
        ("-infr..4r", "is not finite"),
    ],
)
def test_values_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(ClampError, match=said):
        parse_values(text)


def test_a_neuron_is_held_by_a_clamp_that_sets_it() -> None:
    neuron = parse_address("L2.N47")
    assert hold(neuron, 1.5) == parse_clamp("L2.N47:set:1.5r@last")
    assert hold(neuron, 3.0, unit="raw", site="up", scope=Scope("all")).raw == 3.0
    assert hold(neuron, 3.0, unit="max").raw is None


def test_values_are_scaled_one_by_one() -> None:
    first, second = hold(parse_address("L2.N47"), 1.5), hold(parse_address("L3.N1"), 4.0, unit="raw")
    scaled = scale_values((first, second), (0.5, -0.25))
    assert [(one.value, one.raw) for one in scaled] == [(0.75, None), (-1.0, -1.0)]
    assert [one.address for one in scaled] == [first.address, second.address]
    assert first.value == 1.5
