"""The Skills page's figures: what is filled, which colour is whose, and texts that nobody interprets."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures.skills import (
    SetPoints,
    abstention_figure,
    abstention_map,
    depth_figure,
    keys_figure,
    set_colours,
)
from analysis.figures.theme import NEUTRAL, POSITIVE

HOSTILE = '<b>$x$</b> & "quoted"'
TRIANGLE = np.array([[0.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])


def points(name: str, inside: list[bool], probe: list[bool]) -> SetPoints:
    count = len(inside)
    places = np.arange(2.0 * count).reshape(count, 2)
    return SetPoints(
        name, places, np.array(inside), np.array(probe), [f"{HOSTILE} {i}\nx" for i in range(count)]
    )


def test_marks_are_filled_where_the_box_holds_them_and_probes_have_a_shape_of_their_own() -> None:
    sets = [
        points("mine", [True, False, True], [True, True, False]),
        points("other", [False, True], [False, False]),
        points("unrelated", [False], [False]),
    ]
    figure = keys_figure(sets, 2 * TRIANGLE, (0.5, 0.25), query=(3.0, 4.0))
    traces = {trace.name: trace for trace in figure.data}
    assert list(traces) == ["slice of the box", "unrelated", "other", "mine", "mine, probes", "your query"]
    assert list(traces["mine, probes"].marker.symbol) == ["diamond", "diamond-open"]
    assert list(traces["mine"].marker.symbol) == ["circle"]
    assert list(traces["other"].marker.symbol) == ["square-open", "square"]
    assert list(traces["mine"].x) == [4.0]
    assert [label.split("<br>")[0] for label in traces["other"].customdata] == [
        "other, outside",
        "other, inside",
    ]
    assert list(traces["slice of the box"].x) == [0, -2, 2, 0]
    assert figure.layout.xaxis.title.text == "first component, 50% of the variance"


def test_names_and_texts_are_shown_as_they_are() -> None:
    sets = [points(HOSTILE, [True], [False]), points("other", [True], [False])]
    figure = keys_figure(sets, TRIANGLE, (0.5, 0.25))
    label = figure.data[-1].customdata[0]
    assert "&lt;b&gt;&#36;x&#36;&lt;/b&gt; &amp; &quot;quoted&quot; 0 ⏎ x" in label
    for text in (label.replace("<br>", ""), figure.data[-1].name):
        assert "<" not in text
        assert "$" not in text
    curve = abstention_figure([1, 2], [(HOSTILE, [0, 1]), ("o", [0, 0])], alpha=1.5, bound=0.05)
    cells = abstention_map(["L0"], [HOSTILE, "o"], np.array([[0.5, 0.2]]), [3, 4])
    assert "<" not in curve.data[0].name
    assert "<" not in cells.layout.xaxis.ticktext[0]
    assert "<" not in cells.data[0].text[0][0]


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="the same queries"):
        SetPoints("x", TRIANGLE, np.ones(3, bool), np.ones(2, bool), ["a"] * 3)


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_the_skill_is_amber_and_unrelated_text_grey_and_no_other_is(count: int) -> None:
    colours = set_colours(count)
    assert (len(colours), colours[0], colours[-1]) == (count, POSITIVE, NEUTRAL)
    assert not {POSITIVE, NEUTRAL, "#e69f00", "#d55e00"} & set(colours[1:-1])


def test_the_map_tells_every_share_in_the_pages_colour() -> None:
    shares = np.array([[0.9, 0.1], [0.75, np.nan]])
    heat, told = abstention_map(["L0", "all"], ["mine", "none"], shares, [20, 0]).data
    places = zip(told.x, told.y, told.text, strict=True)
    assert set(places) == {(0, 0, "90%"), (1, 0, "10%"), (0, 1, "75%"), (1, 1, "–")}
    assert told.textfont.color is None
    assert heat.text[1][1] == "all, none, 0 queries: – refused"


def test_a_querys_depth_is_filled_where_the_box_holds_it() -> None:
    figure = depth_figure(["L0", "L1", "L2"], [0.5, 2.0, 3.0], [True, True, False], alpha=2.0)
    assert list(figure.data[0].marker.symbol) == ["circle", "circle", "circle-open"]
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.shapes[0].y0 == 2.0


def test_the_curve_marks_alpha_and_what_validation_allows() -> None:
    figure = abstention_figure([1, 2], [("mine", [0.2, 1.0]), ("o", [0, 0.1])], alpha=1.5, bound=0.05)
    assert [(s.x0, s.y0) for s in figure.layout.shapes] == [(0, 0.05), (1.5, 0)]
    assert figure.data[0].line.width > figure.data[1].line.width
    assert list(figure.data[0].y) == [0.2, 1.0]
    unbound = abstention_figure([1, 2], [("mine", [0.2, 1.0]), ("o", [0, 0.1])], alpha=1.5)
    assert [(s.x0, s.y0) for s in unbound.layout.shapes] == [(1.5, 0)]
