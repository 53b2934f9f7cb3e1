"""The pictures of unlearning: what stands where, and that nothing from a skill file is interpreted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.figures.unlearning import (
    DropMatrix,
    FormDrop,
    Frontier,
    drop_matrix_figure,
    frontier_figure,
    ways_figure,
)

EVIL = "<script>$x$</script>"
MATRIX = DropMatrix(
    ["sums (forget)", EVIL],
    ["KSD", "Selective pruning"],
    np.array([[0.9, 0.5], [-0.2, np.nan]]),
    [["a", "b"], ["c", "d"]],
    [["A", "B"], ["C", "D"]],
)


def texts(figure: Any) -> str:
    return str(figure.to_json())


def test_the_matrix_writes_every_cell_and_a_gain_has_no_colour() -> None:
    figure = drop_matrix_figure(MATRIX)
    heat, written = figure.data
    assert heat.z[0].tolist() == [0.9, 0.5]
    assert heat.z[1][0] == 0
    assert np.isnan(heat.z[1][1])
    assert (heat.zmin, heat.zmax) == (0, 1)
    places = zip(written.x, written.y, written.text, strict=True)
    assert set(places) == {(0, 0, "a"), (1, 0, "b"), (0, 1, "c"), (1, 1, "d")}
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first skill is on top
    assert list(figure.layout.xaxis.ticktext) == ["KSD", "Selective pruning"]


def test_what_is_written_on_amber_takes_the_pages_colour() -> None:
    assert drop_matrix_figure(MATRIX).data[1].textfont.color is None


def test_a_matrix_whose_cells_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="as many drops"):
        replace(MATRIX, drop=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="as many drops"):
        replace(MATRIX, text=[["a"], ["b"]])
    with pytest.raises(ValueError, match="1 points, 0 labels"):
        Frontier("KSD", [(0.0, 1.0)], [], None)


def test_the_frontier_holds_every_point_the_chosen_one_and_the_goal() -> None:
    methods = [
        Frontier("KSD", [(0.2, 0.9), (0.0, 0.5)], ["α 2", "α 1"], (0.15, 0.85)),
        Frontier("Selective pruning", [(0.6, -0.3)], ["q 3 %"], None),
    ]
    figure = frontier_figure(methods, goal=(0.1, 0.8))
    tried, chosen, other = figure.data
    assert list(zip(tried.x, tried.y, tried.text, strict=True)) == [(0.0, 0.5, "α 1"), (0.2, 0.9, "α 2")]
    assert (chosen.x[0], chosen.y[0]) == (0.15, 0.85)
    assert other.name == "Selective pruning, tried"
    assert tried.marker.color != other.marker.color
    assert tried.marker.symbol != other.marker.symbol
    [goal] = figure.layout.shapes
    assert (goal.x1, goal.y0) == (0.1, 0.8)
    assert figure.layout.xaxis.range[1] > 0.6
    assert figure.layout.yaxis.range[0] < -0.3


def test_every_way_of_asking_is_a_row_with_an_interval() -> None:
    asked = {
        "KSD": [FormDrop("test", 0.9, (0.8, 1.0)), FormDrop("poem", 0.2, None)],
        "Selective pruning": [FormDrop("poem", 0.5, (0.4, 0.7))],
    }
    first, second = ways_figure(asked, goal=0.8).data
    assert list(first.x) == [0.9, 0.2]
    assert list(first.error_x.array) == pytest.approx([0.1, 0.0])
    assert list(second.error_x.arrayminus) == pytest.approx([0.1])
    assert round(second.y[0]) == round(first.y[1]) == 1


def test_names_are_shown_as_they_are_and_never_interpreted() -> None:
    figures = [
        drop_matrix_figure(MATRIX),
        frontier_figure([Frontier(EVIL, [(0.0, 0.0)], [EVIL], (0.0, 0.0))], goal=(0.1, 0.8)),
        ways_figure({EVIL: [FormDrop(EVIL, 0.5, None)]}, goal=0.8),
    ]
    for figure in figures:
        assert "<script>" not in texts(figure)
        assert "$x$" not in texts(figure)
