"""Differences of two texts, and of two probabilities."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.running.differences import cut_to_difference, join_tokens, log_odds_change, mark_differences

TOKENS = st.lists(st.sampled_from([" dog", " cat", " is", "\n", "<b>", ""]), max_size=12)


@given(TOKENS, TOKENS)
def test_the_pieces_hold_each_text_whole_and_share_the_same_text(base: list[str], changed: list[str]) -> None:
    left, right = mark_differences(base, changed)
    assert "".join(piece.text for piece in left) == "".join(base)
    assert "".join(piece.text for piece in right) == "".join(changed)
    assert "".join(p.text for p in left if p.same) == "".join(p.text for p in right if p.same)


def test_one_changed_word_is_the_only_piece_marked() -> None:
    left, right = mark_differences([" the", " dog", " ran"], [" the", " cat", " ran"])
    assert [(piece.text, piece.same) for piece in left] == [(" the", True), (" dog", False), (" ran", True)]
    assert [piece.text for piece in right if not piece.same] == [" cat"]


def test_equal_texts_are_one_piece_without_a_mark() -> None:
    left, right = mark_differences([" a", " b"], [" a", " b"])
    assert left == right
    assert [(piece.text, piece.same) for piece in left] == [(" a b", True)]


def test_a_token_repeated_two_hundred_times_still_counts_as_the_same() -> None:
    """difflib takes frequent tokens of long texts for noise unless told not to."""
    left, right = mark_differences([" a", *[" the"] * 250], [" the"] * 250)
    assert [piece.same for piece in left] == [False, True]
    assert [piece.same for piece in right] == [True]


def test_the_bytes_of_one_character_are_shown_as_the_character() -> None:
    assert join_tokens(["caf", "<0xC3>", "<0xA9>", "!"]) == "café!"
    assert join_tokens(["caf", "<0xC3>"]) == "caf<0xC3>"


@given(st.floats(0.001, 0.999), st.floats(-5, 5))
def test_the_log_odds_change_is_the_shift_that_was_made(base: float, shift: float) -> None:
    odds = base / (1 - base) * math.exp(shift)
    assert log_odds_change(base, odds / (1 + odds)) == pytest.approx(shift, abs=1e-6)


@pytest.mark.parametrize(("base", "changed"), [(0.0, 0.5), (0.5, 1.0), (1.0, 0.2), (0.3, 0.0)])
def test_certainty_has_no_log_odds(base: float, changed: float) -> None:
    assert log_odds_change(base, changed) is None


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("abcdef", "abXdef", ("abcdef", "abXdef")),
        ("0123456789abc", "0123456789Xbcdefgh", ("…789abc", "…789Xbc…")),
        ("same", "same and more", ("…ame", "…ame an…")),
        ("", "x", ("", "x")),
    ],
)
def test_two_texts_are_cut_to_their_first_difference(one: str, other: str, expected: tuple[str, str]) -> None:
    assert cut_to_difference(one, other, shown=3 if len(one) != 6 else 9) == expected
