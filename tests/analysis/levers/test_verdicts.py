"""Sentences about levers and sweeps, one for each thing that may speak against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.levers.results import Lever, LeverSearch, Shortlisted
from analysis.levers.sweeping import DoseCurve, DosePoint
from analysis.levers.verdicts import count, describe_clamps, judge_levers, judge_sweep, percent
from tests.analysis.levers.bench_made import lever, neurons, tried

NEURONS = tuple(Shortlisted(one, None, None, 0.0, 1.0, 1.0) for one in neurons(3))


def judge(*levers: Lever, **changed: Any) -> str:
    found = LeverSearch(levers, None, NEURONS, (), 0.05)
    return judge_levers("dog", replace(found, **changed), 4)


def test_a_lever_without_fault_is_said_with_its_numbers() -> None:
    assert judge(lever(4.0)) == (
        "Holding L3.N0 at 1.5 × residual makes the model say “dog”: P 5.0 % → 95 % on 4 held-out prompts; "
        "the best of 3 random neurons gives 10 %. Where a word of another kind is due, P is 10 %. Neutral "
        "text changes by 0.02 nats a token."
    )


def test_a_set_is_said_beside_the_best_neuron_alone() -> None:
    said = judge(lever(9.0, 0.97, size=2), lever(3.0, 0.5))
    assert said.startswith(
        "Holding L3.N0 at 1.5 × residual and L3.N1 at 1.5 × residual makes the model say “dog”: P 5.0 % → 97"
    )
    assert "the best of 3 random sets of 2 gives 10 %" in said
    assert said.endswith("One neuron alone, L3.N0 at 1.5 × residual, gives 50 %.")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"held_out": 0.6}, "Steerable means at least 90 %."),
        (
            {"held_out": 0.6, "controls": (0.5,)},
            "Random neurons may raise it by 30 points at most, so it shows little about these.",
        ),
    ],
)
def test_what_is_not_steerable_is_not_claimed(changed: dict[str, Any], said: str) -> None:
    verdict = judge(lever(4.0, **changed), lever(3.0, 0.98, first=5))
    assert verdict.startswith(
        "The best by the prompts it was chosen on, L3.N0 at 1.5 × residual, does not make the model say "
        "“dog” reliably: P 5.0 % → 60 %"
    )
    assert said in verdict


def test_a_word_that_is_said_beside_good_random_neurons_is_not_called_unsaid() -> None:
    verdict = judge(lever(4.0, controls=(0.2, 0.36)))
    assert verdict.startswith("Holding L3.N0 at 1.5 × residual makes the model say “dog”: P 5.0 % → 95 %")
    assert "gives 36 %. Random neurons may raise it by 30 points at most, so it shows little" in verdict
    assert "nearly as well" not in verdict


def test_a_lever_without_controls_is_said_to_have_none() -> None:
    verdict = judge(lever(4.0, controls=()))
    assert verdict.startswith("Holding L3.N0 at 1.5 × residual makes the model say “dog”: ")
    assert "; no random neurons were run beside it." in verdict
    assert judge(lever(4.0, 0.5, controls=())).startswith("The best by the prompts it was")


def test_a_word_that_is_forced_anywhere_is_said_if_it_was_raised_at_all() -> None:
    forced = judge(lever(4.0, specificity=0.9))
    assert forced.startswith(
        "Holding L3.N0 at 1.5 × residual makes the model say “dog”, but forces the token anywhere: P 5.0 % → "
        "95 % on 4 held-out prompts, and 90 % where a word of another kind is due; the best of 3 random"
    )
    weak = judge(lever(-9.0, 0.06, specificity=0.07))
    assert "forces" not in weak
    assert "Where a word of another kind is due, P is 7.0 %." in weak
    assert "another kind" not in judge(lever(4.0, specificity=None))


def test_the_search_over_random_neurons_is_said_where_it_was_run() -> None:
    assert judge(lever(4.0), search_control=lever(1.0, 0.31)).endswith(
        "The same search over as many random neurons gives 31 %."
    )


def test_nothing_found_is_said_with_the_reason() -> None:
    assert judge().startswith("None of the 3 neurons tried raises “dog” on the prompts to choose on")
    refused = ((tried(5.0, -2.0).clamps, "neutral KL 0.4 nats, above 0.1"),) * 2
    assert judge(refused=refused) == (
        "Nothing that raises “dog” leaves other text alone: 2 were left out, the best of them, L0.N0 at −2 × "
        "residual, for neutral KL 0.4 nats, above 0.1."
    )


POINT = DosePoint(1.5, None, (0.8,), 0.8, 1.4, 0.1, None, None, None, None)


def curve(number: int, *points: DosePoint, reached: float = 1.0, block: str = "L0") -> DoseCurve:
    return DoseCurve(neurons(number + 1, block)[number], points or (POINT,), reached)


def test_a_sweep_names_the_neuron_and_value_that_raise_the_word_most() -> None:
    lower = replace(POINT, value=-4.0, mean=0.2)
    assert judge_sweep("dog", 0.05, [curve(0, lower), curve(1, lower, POINT)], 0, None) == (
        "Most at L0.N1, value 1.5 × residual: P(“dog”) 5.0 % → 80 %."
    )
    high = replace(POINT, value=-2.83, mean=0.9)
    said = judge_sweep("dog", 0.05, [curve(0, lower, high), curve(1)], 20, 0.3)
    assert said == (
        "Most at L0.N0, value −2.83 × residual: P(“dog”) 5.0 % → 90 %; the best of 20 random neurons gives "
        "30 %."
    )


def test_a_sweep_that_raises_nothing_says_so() -> None:
    assert judge_sweep("dog", 0.8, [curve(0)], 20, 0.9) == "No value raises P(“dog”) above 80 %."


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"collapse": True}, " Its text repeats itself. No value without repetition raises P(“dog”)."),
        ({"neutral_kl": 0.25}, " Neutral text changes by 0.25 nats a token, above 0.1."),
        ({"neutral_kl": 0.1, "collapse": False}, ""),
    ],
)
def test_a_sweep_warns_of_what_else_the_best_value_does(changed: dict[str, Any], said: str) -> None:
    verdict = judge_sweep("dog", 0.05, [curve(0, replace(POINT, **changed))], 0, None)
    assert verdict == f"Most at L0.N0, value 1.5 × residual: P(“dog”) 5.0 % → 80 %.{said}"


def test_a_sweep_names_the_best_value_whose_text_does_not_repeat_itself() -> None:
    spoiled = replace(POINT, collapse=True)
    lower, none = replace(POINT, value=-0.5, mean=0.4), replace(POINT, value=0.0, mean=0.05)
    said = judge_sweep("dog", 0.05, [curve(0, spoiled, none), curve(1, lower)], 0, None)
    assert said.endswith(
        " Its text repeats itself. Without repetition most at L0.N1, value −0.5 × residual: 40 %."
    )
    said = judge_sweep("dog", 0.05, [curve(0, spoiled, none)], 0, None)
    assert said.endswith(" Its text repeats itself. No value without repetition raises P(“dog”).")


def test_values_that_give_nan_are_left_out_and_said_if_there_is_nothing_else() -> None:
    nan = replace(POINT, value=4.0, mean=None, log_odds=None, kl=None)
    assert "value 1.5" in judge_sweep("dog", 0.05, [curve(0, nan, POINT)], 0, None)
    assert judge_sweep("dog", 0.05, [curve(0, nan)], 0, None) == (
        "Nothing can be said of “dog”: every value drove the model to NaN; sweep smaller ones."
    )


def test_neurons_that_never_acted_are_named_with_the_reason() -> None:
    routed = curve(2, reached=0.0, block="L0.E3")
    late, shared = curve(1, reached=0.0), curve(0, reached=0.0, block="L0.S0")
    why = "L0.E3.N2 never acted: no position clamped is routed to its expert."
    assert judge_sweep("dog", 0.05, [routed], 0, None) == f"Nothing can be said of “dog”: {why}"
    assert judge_sweep("dog", 0.05, [curve(0), routed], 0, None).endswith(f"→ 80 %. {why}")
    assert (
        judge_sweep("dog", 0.9, [curve(0), routed], 0, None) == f"No value raises P(“dog”) above 90 %. {why}"
    )
    assert judge_sweep("dog", 0.05, [late, shared], 0, None) == (
        "Nothing can be said of “dog”: L0.N1, L0.S0.N0 never acted: no prompt reaches the positions clamped."
    )


def test_numbers_are_written_for_a_sentence() -> None:
    given = [1.0, 0.996, 0.994, 0.5, 0.1, 0.0999, 0.001, 0.0004, 0.0]
    expected = ["99.9 %", "99.6 %", "99 %", "50 %", "10 %", "10.0 %", "0.1 %", "4e-04", "0 %"]
    assert [percent(value) for value in given] == expected
    assert [count(number, "prompt") for number in (0, 1, 2)] == ["0 prompts", "1 prompt", "2 prompts"]
    assert describe_clamps(tried(0.0, 1.41421, -0.5, 2.0).clamps) == (
        "L0.N0 at 1.41 × residual, L0.N1 at −0.5 × residual and L0.N2 at 2 × residual"
    )


def test_a_word_that_is_said_without_clamps_shows_nothing() -> None:
    already = "The model says it without clamps already, so this shows nothing."
    assert already in judge(lever(4.0, base=0.92))
    assert already not in judge(lever(4.0, base=0.89))


def test_values_are_said_in_the_unit_they_are_in() -> None:
    assert "value 1.5: P" in judge_sweep("dog", 0.05, [curve(0)], 0, None, "")
    assert "value 1.5 × max: P" in judge_sweep("dog", 0.05, [curve(0)], 0, None, "× max")
    found = LeverSearch((lever(4.0), lever(3.0, 0.5, first=5)), None, (), (), 0.05)
    assert judge_levers("dog", found, 4, "× block").startswith("Holding L3.N0 at 1.5 × block makes")
