"""Figure of levers: bars, and marks for what they are measured against."""

import pytest

from analysis.figures.levers import LeverBars, lever_figure


def test_levers_are_bars_with_marks_for_what_they_are_measured_against() -> None:
    bars = LeverBars(["L1.N2:4r", "<b>"], [0.9, 0.4], [0.1, None], [0.95, 0.6], [0.2, 0.3])
    figure = lever_figure("dog", bars)
    named = {trace.name: trace for trace in figure.data}
    assert list(named["held-out prompts"].x) == [0.9, 0.4]
    assert list(named["best random neurons"].x) == [0.1, None]
    assert list(named["prompts it was chosen on"].x) == [0.95, 0.6]
    assert list(named["another kind of word due"].x) == [0.2, 0.3]
    assert list(figure.layout.yaxis.ticktext) == ["L1.N2:4r", "&lt;b&gt;"]
    top, bottom = figure.layout.yaxis.range
    assert top > bottom


def test_levers_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry for each lever"):
        LeverBars(["a"], [0.1], [0.2], [], [0.3])
