"""The hits of a word by layer: dots where their score is, the best of a layer labelled, safe texts."""

import numpy as np
import pytest

from analysis.figures.hits import LABELLED, Hits, LayerSpread, choose_labels, hits_figure, spread_layers


def hits(**changed: object) -> Hits:
    given = {
        "layer": [2, 2, 0, 2],
        "score": [9.0, 5.0, -4.0, -3.0],
        "name": ["L2.N7", "L2.N1", "L0.N3", "L2.N0"],
        "token": ["␣dog", "<b>", "$x$", "dog"],
        "measure": "z-score",
    }
    return Hits(**{**given, **changed})  # type: ignore[arg-type]


def test_dots_lie_at_their_score_and_layer_and_carry_name_and_token() -> None:
    lines, dots = hits_figure(hits(), LayerSpread([0, 1, 2], [-4, -1, -3], [2, 1, 9])).data
    assert list(dots.x) == [9.0, 5.0, -4.0, -3.0]
    assert list(dots.y) == [2, 2, 0, 2]
    assert [name for name, _ in dots.customdata] == ["L2.N7", "L2.N1", "L0.N3", "L2.N0"]
    assert [token for _, token in dots.customdata][1:3] == ["&lt;b&gt;", "&#36;x&#36;"]
    assert list(lines.x) == [-4, 2, None, -1, 1, None, -3, 9, None]
    assert list(lines.y) == [0, 0, None, 1, 1, None, 2, 2, None]


def test_the_best_of_a_layer_is_labelled_at_either_side() -> None:
    assert choose_labels(hits()) == ["L2.N7", "", "L0.N3", "L2.N0"]
    many = range(LABELLED + 5)
    labels = choose_labels(
        hits(layer=many, score=[1.0] * len(many), name=["n"] * len(many), token=["t"] * len(many))
    )
    assert labels.count("n") == LABELLED


def test_scores_without_a_negative_side_begin_at_zero() -> None:
    figure = hits_figure(hits(score=[0.9, 0.5, 0.2, 0.1]), LayerSpread([0, 2], [0.0, 0.0], [0.2, 0.9]))
    assert figure.layout.xaxis.range[0] == 0


def test_the_spread_of_each_layer_is_over_all_its_neurons() -> None:
    found = spread_layers(np.array([1, 0, 1]), np.array([3.0, 2.0, -1.0]))
    assert found == LayerSpread([0, 1], [2.0, -1.0], [2.0, 3.0])


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="same neurons"):
        hits(layer=[1])
    with pytest.raises(ValueError, match="same layers"):
        LayerSpread([0], [1.0], [])
