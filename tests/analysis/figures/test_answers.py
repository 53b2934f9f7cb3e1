"""Figures of the answer position, and of a word along two texts."""

import pytest

from analysis.figures.answers import word_path_figure


def test_a_word_is_drawn_along_both_texts_with_gaps_and_hostile_tokens_escaped() -> None:
    figure = word_path_figure("<b>$x$", (["␣a", "<b>"], ["$c$"]), ([0.1, None], [0.5]))
    base, clamped = figure.data
    assert (base.name, list(base.x), list(base.y)) == ("base", [1, 2], [0.1, None])
    assert (clamped.name, list(clamped.x), list(clamped.y)) == ("clamped", [1], [0.5])
    assert list(base.customdata) == ["␣a", "&lt;b&gt;"]
    assert list(clamped.customdata) == ["&#36;c&#36;"]
    assert figure.layout.yaxis.title.text == "P(&lt;b&gt;&#36;x&#36;)"
    assert base.line.dash != clamped.line.dash


def test_a_token_without_its_probability_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens and 1 probabilities of the clamped text"):
        word_path_figure("dog", (["a"], ["a", "b"]), ([0.1], [0.5]))
