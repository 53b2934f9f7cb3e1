"""The pictures of experts: what is drawn is what was given."""

import numpy as np
import pytest

from analysis.figures.experts import (
    ExpertCells,
    ResidualCurve,
    expert_map_figure,
    maxima_figure,
    residual_figure,
)
from analysis.figures.pruning import decay_figure, effect_figure, sink_figure

CELLS = ExpertCells(
    layer=[0, 0, 1, 1, 1],
    column=["E0", "E10", "E0", "E2", "S0"],
    value=np.array([1.0, 10.0, 0.0, 1000.0, 5.0]),
    name=["L0.E0", "L0.E10", "L1.E0", "L1.E2", "L1.S0"],
    text=["a", "b", "c", "d", "e"],
)


def test_the_map_is_logarithmic_with_routed_experts_by_number_and_shared_ones_behind() -> None:
    heat = expert_map_figure(CELLS, {}, measure="a", log=True).data[0]
    assert list(heat.x) == ["E0", "E2", "E10", "S0"]
    assert list(heat.y) == ["L0", "L1"]
    np.testing.assert_allclose(heat.z, [[0, np.nan, 1, np.nan], [np.nan, 3, np.nan, np.log10(5)]])
    assert heat.text[1][1] == "d"
    linear = expert_map_figure(CELLS, {}, measure="a", log=False).data[0]
    assert linear.z[1][1] == 1000


def test_a_click_on_a_cell_gives_its_name_back_and_marks_lie_on_their_cells() -> None:
    figure = expert_map_figure(
        CELLS, {"super": ["L1.E2"], "chosen": ["L0.E0", "L9.E9"]}, measure="a", log=True
    )
    points = figure.data[1]
    where = dict(zip(points.customdata, zip(points.x, points.y, strict=True), strict=True))
    assert where["L1.E2"] == ("E2", "L1")
    marks = {trace.name: list(zip(trace.x, trace.y, strict=True)) for trace in figure.data[2:]}
    assert marks == {"super": [("E2", "L1")], "chosen": [("E0", "L0")]}


def test_a_dense_model_is_one_column() -> None:
    cells = ExpertCells([0, 1], ["dense", "dense"], np.array([2.0, 3.0]), ["L0", "L1"], ["", ""])
    assert list(expert_map_figure(cells, {}, measure="a", log=True).data[0].x) == ["dense"]


def test_maxima_are_sorted_and_bounds_are_lines_at_their_values() -> None:
    figure = maxima_figure(CELLS.value, CELLS.name, ["L1.E2"], {"P99.5": 7.0, "none": 0.0})
    dots, line = figure.data
    assert list(dots.y) == [1000, 10, 5, 1]
    assert list(dots.text) == ["L1.E2", "L0.E10", "L1.S0", "L0.E0"]
    assert list(line.y) == [7.0, 7.0]
    assert "P99.5: 7" in line.name


def test_the_residual_curve_marks_the_layers_that_form_massive_activations() -> None:
    curve = ResidualCurve([0, 1, 2], [3.0, 900.0, 901.0], [1.0, 2.0, 3.0], [0.5] * 3, [False, True, False])
    stars = residual_figure(curve, massive=100.0).data[-1]
    assert (list(stars.x), list(stars.y)) == ([1], [900.0])


def test_every_head_has_a_dot_before_and_after() -> None:
    base = np.array([[0.9, 0.1], [0.5, np.nan]])
    figure = sink_figure([3, 7], base, base / 2, np.array([0.1, 0.1]))
    assert [len(trace.x) for trace in figure.data] == [3, 3, 2]
    assert list(figure.data[1].y) == [0.45, 0.05, 0.25]


def test_decay_is_a_line_for_what_was_pruned_and_a_dot_for_each_random_set_and_layer() -> None:
    pruned, random = [(0.9, None, 0.5)], [(0.1, None, 0.0), (-0.2, None, None)]
    figure = decay_figure({"pruned": pruned, "random": random})
    line, dots = figure.data
    assert (list(line.x), list(line.y), line.mode) == ([0, 2], [0.9, 0.5], "lines+markers")
    assert list(dots.y) == [0.1, 0.0, -0.2]
    assert [round(x) for x in dots.x] == [0, 2, 0]
    assert dots.mode == "markers"


def test_many_ranks_are_drawn_on_a_logarithmic_axis_and_few_on_a_plain_one() -> None:
    for size, kind in ((4, None), (400, "log")):
        names = [f"L0.E{i}" for i in range(size)]
        assert maxima_figure(np.ones(size), names, [], {}).layout.xaxis.type == kind


def test_large_values_are_written_out_beside_the_colours() -> None:
    bar = expert_map_figure(CELLS, {}, measure="a", log=True).data[0].colorbar
    assert list(bar.ticktext) == ["1", "5.62", "31.6", "178", "1,000"]


def test_effects_are_one_row_per_group() -> None:
    figure = effect_figure({"pruned": [2.0], "random": [0.1, 0.2]})
    assert [list(trace.x) for trace in figure.data] == [[2.0], [0.1, 0.2]]


def test_sequences_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same experts"):
        ExpertCells([0], ["E0"], np.array([1.0, 2.0]), ["L0.E0"], [""])
    with pytest.raises(ValueError, match="same layers"):
        ResidualCurve([0], [1.0], [1.0, 2.0], [1.0], [False])
