"""Evidence of levers and sweeps as pages and exports read it: whole where it is whole, never raising."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from store.word_evidence import DOSE_COLUMNS, LEVER_COLUMNS, read_word_evidence, shorten_clamp

LEVER = {
    "clamps": ["L3.N290:key:set:-4r@last", "L3.N296:key:set:-2.8284271247461903r@last"],
    "per_prompt": [0.5, 0.75],
    "held_out": 0.625,
    "base": 0.03,
    "selection": 0.9,
    "specificity": 0.1,
    "largest_control": None,
    "neutral_kl": 0.002,
    "collapse": None,
}
POINT = {"value": 2.0, "probability": [0.1, 0.3], "mean": 0.2, "kl": 1.5, "neutral_kl": 0.2, "collapse": True}
SWEEP = {
    "word": "dog",
    "unit": "max",
    "base": {"probability": [0.01], "mean": 0.01},
    "neurons": [{"address": "L1.N2", "points": [POINT, {**POINT, "value": 4.0, "mean": None}]}],
    "controls": {"band": [[0.01, 0.02], [0.03, 0.04]]},
    "verdict": "Most at L1.N2",
}
odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["levers", "neurons", "points", "clamps", "controls", "band", "base", "probability", "prompt"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def test_a_lever_is_read_with_short_clamps_and_gaps_where_nothing_was_measured() -> None:
    said = read_word_evidence(
        {"document": {"word": "dog", "steerable": True, "base": 0.03, "levers": [LEVER]}}
    )
    (lever,) = said.levers
    assert (said.word, said.steerable, said.base, said.doses) == ("dog", True, 0.03, ())
    assert lever.probability == (0.5, 0.75)
    assert lever.cells() == ("L3.N290:-4r L3.N296:-2.83r", 0.625, 0.03, None, 0.9, 0.1, 0.002, "–")


def test_the_best_lever_says_whether_the_word_is_forced() -> None:
    other = LEVER | {"clamps": ["L1.N1:key:set:1r@last"], "anywhere": True}
    for best, forces in ((other["clamps"], True), (LEVER["clamps"], False), (None, False)):
        said = read_word_evidence({"document": {"levers": [LEVER, other], "best": best}})
        assert said.forces is forces


def test_a_dose_is_read_with_the_random_neurons_at_its_value() -> None:
    said = read_word_evidence({"document": SWEEP})
    assert (said.base, said.unit, said.steerable) == (0.01, "× max", None)
    first, second = said.doses
    assert first.cells() == ("L1.N2", 2.0, 0.2, 0.01, 0.02, 1.5, 0.2, "yes")
    assert (second.mean, second.low, second.high) == (None, 0.03, 0.04)
    assert first.probability == (0.1, 0.3)


def test_prompts_are_read_with_what_they_are_for_and_everything_around_them() -> None:
    asked = {
        "select": [{"prompt": "Which?", "answer_prefix": "It is a"}],
        "held_out": [{"prompt": "Who?", "system": "Be brief", "turns": [["user", "Hi"]], "raw": True}],
        "prompts": ["no mapping"],
    }
    chosen, held, odd_one = read_word_evidence({"question": asked}).prompts
    assert (chosen.purpose, chosen.line) == ("chosen on", "Which? … It is a")
    assert (held.purpose, held.system, held.turns, held.raw) == ("held out", "Be brief", "user: Hi", True)
    assert (odd_one.purpose, odd_one.line) == ("swept on", "")


def test_only_clamps_of_a_search_are_shortened() -> None:
    assert shorten_clamp("L1.E2.N3:key:set:1.4142135623730951r@last") == "L1.E2.N3:1.41r"
    for other in ("L1.N2:key:set:4x@last", "L1.N2:up:set:4r@last", "L1.N2:key:set:4r@all", "", "<b>"):
        assert shorten_clamp(other) == other


def test_a_band_that_is_too_short_leaves_the_other_values_without_random_neurons() -> None:
    said = read_word_evidence({"document": {**SWEEP, "controls": {"band": [[0.01, 0.02]]}}})
    assert [(dose.low, dose.high) for dose in said.doses] == [(0.01, 0.02), (None, None)]


@given(odd, odd)
def test_whatever_is_there_is_read_without_raising(document: Any, question: Any) -> None:
    said = read_word_evidence({"document": document, "question": question})
    assert {len(lever.cells()) for lever in said.levers} <= {len(LEVER_COLUMNS)}
    assert {len(dose.cells()) for dose in said.doses} <= {len(DOSE_COLUMNS)}
