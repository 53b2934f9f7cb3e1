"""Figures: shapes are checked, what is drawn is what was given, nothing depends on the paper's colour."""

import numpy as np
import pytest

from analysis.figures.anatomy import BlockTable, anatomy_figure, group_layers
from analysis.figures.neurons import (
    MOST_COLUMNS,
    LayerMap,
    Marks,
    activation_histogram,
    layer_map_figure,
)
from analysis.figures.theme import SEQUENTIAL


def cells(value: np.ndarray) -> LayerMap:
    texts = np.full(value.shape, "text", dtype=object)
    return LayerMap(np.arange(len(value)), np.arange(1, value.shape[1] + 1), value, texts, "score")


def mixture() -> BlockTable:
    """Layer 0 dense with 8 neurons; layer 1 with four routed experts of 2 and one shared expert of 3."""
    kinds = np.array(["dense", "routed", "routed", "routed", "routed", "shared"])
    return BlockTable(np.array([0, 1, 1, 1, 1, 1]), kinds, np.array([8, 2, 2, 2, 2, 3]))


def boxes(blocks: BlockTable) -> list[str]:
    """What stands in the boxes, from the bottom up."""
    return [note.text for note in anatomy_figure(group_layers(blocks)).layout.annotations if note.x < 0.5]


def dense(*widths: int) -> BlockTable:
    return BlockTable(np.arange(len(widths)), np.array(["dense"] * len(widths)), np.array(widths))


def test_layers_that_are_alike_are_one_box() -> None:
    assert boxes(dense(*[1536] * 30)) == [
        "embedding",
        "30 × a feed-forward block of 1,536 neurons",
        "language-model head",
    ]
    assert group_layers(dense(4, 4, 4))[0].name == "L0 to L2"


def test_layers_that_differ_are_boxes_of_their_own_and_experts_are_counted() -> None:
    assert boxes(mixture())[1:-1] == [
        "1 × a feed-forward block of 8 neurons",
        "1 × 4 routed experts of 2 neurons and 1 shared expert of 3 neurons",
    ]


def test_layers_that_alternate_are_grouped_by_kind() -> None:
    groups = group_layers(dense(*[4, 6] * 10))
    assert [(group.name, len(group.layers)) for group in groups] == [
        ("L0, L2 … L18", 10),
        ("L1, L3 … L19", 10),
    ]


def test_a_layer_between_that_has_no_block_is_not_counted() -> None:
    blocks = BlockTable(np.array([0, 2]), np.array(["dense", "dense"]), np.array([4, 4]))
    assert [group.layers for group in group_layers(blocks)] == [(0,), (2,)]


def test_of_many_kinds_of_layers_the_first_are_drawn() -> None:
    assert boxes(dense(*range(1, 31)))[-2] == "18 more kinds of layers"


def test_blocks_of_an_unknown_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="sparse"):
        BlockTable(np.array([0]), np.array(["sparse"]), np.array([4]))


def test_blocks_of_unequal_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="same blocks"):
        BlockTable(np.array([0, 1]), np.array(["dense"]), np.array([4]))


def test_magnitudes_start_at_zero() -> None:
    heat = layer_map_figure(cells(np.array([[0.5, 0.1], [0.2, np.nan]]))).data[0]
    assert (heat.zmin, heat.zmax) == (0, 0.5)
    assert [tuple(step) for step in heat.colorscale] == SEQUENTIAL


def test_a_map_without_values_is_still_drawn() -> None:
    heat = layer_map_figure(cells(np.full((2, 2), np.nan))).data[0]
    assert heat.zmax == 1.0


def test_marks_carry_their_names_to_where_their_cell_is() -> None:
    marks = layer_map_figure(cells(np.ones((3, 4))), Marks([2], [1], ["L2.N7"])).data[1]
    assert (marks.x[0], marks.y[0], marks.customdata[0]) == (1, "L2", "L2.N7")


def test_a_map_checks_its_shapes() -> None:
    with pytest.raises(ValueError, match="cells"):
        LayerMap(np.arange(2), np.arange(3), np.ones((2, 2)), np.ones((2, 3)), "score")


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
        anatomy_figure(group_layers(mixture())),
        layer_map_figure(cells(np.ones((1, 1)))),
        activation_histogram(np.ones(3)),
    ]
    assert {figure.layout.paper_bgcolor for figure in figures} == {"rgba(0,0,0,0)"}
    assert {figure.layout.plot_bgcolor for figure in figures} == {"rgba(0,0,0,0)"}
