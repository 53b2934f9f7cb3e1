"""Figures: shapes are checked, what is drawn is what was given, nothing depends on the paper's colour."""

import numpy as np
import pytest

from analysis.figures.anatomy import BlockTable, anatomy_figure
from analysis.figures.neurons import (
    MOST_COLUMNS,
    LayerMap,
    Marks,
    activation_histogram,
    layer_map_figure,
)
from analysis.figures.theme import DIVERGING, SEQUENTIAL


def cells(value: np.ndarray, *, signed: bool = False) -> LayerMap:
    texts = np.full(value.shape, "text", dtype=object)
    return LayerMap(np.arange(len(value)), np.arange(1, value.shape[1] + 1), value, texts, signed, "score")


def mixture() -> BlockTable:
    """Layer 0 dense with 8 neurons; layer 1 with four routed experts of 2 and one shared expert of 3."""
    kinds = np.array(["dense", "routed", "routed", "routed", "routed", "shared"])
    return BlockTable(np.array([0, 1, 1, 1, 1, 1]), kinds, np.array([8, 2, 2, 2, 2, 3]))


def test_the_anatomy_has_one_bar_per_layer_and_kind() -> None:
    bars = {bar.name: list(bar.x) for bar in anatomy_figure(mixture()).data}
    assert bars == {"dense block": [8, 0], "routed experts": [0, 8], "shared experts": [0, 3]}


def test_the_anatomy_says_how_many_experts_a_layer_has() -> None:
    routed = anatomy_figure(mixture()).data[1]
    assert routed.hovertext[1] == "L1: 4 routed experts × 2 neurons"


def test_a_dense_model_has_no_bars_of_experts_and_no_legend() -> None:
    figure = anatomy_figure(BlockTable(np.array([0, 1]), np.array(["dense", "dense"]), np.array([4, 6])))
    assert [list(bar.x) for bar in figure.data] == [[4, 6]]
    assert figure.layout.showlegend is False


def test_blocks_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="sparse"):
        BlockTable(np.array([0]), np.array(["sparse"]), np.array([4]))


def test_blocks_of_unequal_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="same blocks"):
        BlockTable(np.array([0, 1]), np.array(["dense"]), np.array([4]))


def test_magnitudes_start_at_zero_and_signed_values_lie_around_it() -> None:
    value = np.array([[0.5, 0.1], [-0.2, np.nan]])
    plain, signed = (layer_map_figure(cells(value, signed=s)).data[0] for s in (False, True))
    assert (plain.zmin, plain.zmax) == (0, 0.5)
    assert (signed.zmin, signed.zmax) == (-0.5, 0.5)
    assert [tuple(step) for step in plain.colorscale] == SEQUENTIAL
    assert [tuple(step) for step in signed.colorscale] == DIVERGING


def test_a_map_without_values_is_still_drawn() -> None:
    heat = layer_map_figure(cells(np.full((2, 2), np.nan))).data[0]
    assert heat.zmax == 1.0


def test_marks_carry_their_names_to_where_their_cell_is() -> None:
    marks = layer_map_figure(cells(np.ones((3, 4))), Marks([2], [1], ["L2.N7"])).data[1]
    assert (marks.x[0], marks.y[0], marks.customdata[0]) == (1, "L2", "L2.N7")


def test_a_map_checks_its_shapes() -> None:
    with pytest.raises(ValueError, match="cells"):
        LayerMap(np.arange(2), np.arange(3), np.ones((2, 2)), np.ones((2, 3)), False, "score")


def test_a_map_wider_than_a_screen_is_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        cells(np.ones((1, MOST_COLUMNS + 1)))


def test_marks_check_their_lengths() -> None:
    with pytest.raises(ValueError, match="same cells"):
        Marks([0], [0, 1], ["a"])


def test_a_histogram_counts_every_value_once_and_leaves_nan_out() -> None:
    samples = np.concatenate([np.random.default_rng(0).normal(size=500), [np.nan] * 7])
    assert sum(activation_histogram(samples).data[0].y) == 500


def test_no_bar_of_a_histogram_mixes_signs() -> None:
    bars = activation_histogram(np.random.default_rng(1).normal(0.3, size=500)).data[0]
    low, high = np.asarray(bars.customdata).T
    assert not ((low < -1e-9) & (high > 1e-9)).any()
    assert bars.marker.color[0] != bars.marker.color[-1]


@pytest.mark.parametrize("samples", [np.zeros(5), np.array([]), np.full(3, np.nan)])
def test_a_histogram_of_nothing_is_still_drawn(samples: np.ndarray) -> None:
    assert len(activation_histogram(samples).data) == 1


def test_a_histogram_needs_one_value_per_position() -> None:
    with pytest.raises(ValueError, match="one value per position"):
        activation_histogram(np.ones((2, 2)))


def test_figures_lie_on_any_paper() -> None:
    figures = [
        anatomy_figure(mixture()),
        layer_map_figure(cells(np.ones((1, 1)))),
        activation_histogram(np.ones(3)),
    ]
    assert {figure.layout.paper_bgcolor for figure in figures} == {"rgba(0,0,0,0)"}
    assert {figure.layout.plot_bgcolor for figure in figures} == {"rgba(0,0,0,0)"}
