"""Views for the pages."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from analysis.anatomy.addresses import parse_address
from analysis.neurons.decoding import read_block_vectors
from analysis.opening.models import ModelRef
from store import open_store
from workbench.models import open_model
from workbench.neurons.browsing import cut_excerpt, find_nearest_neurons, find_neighbours, rank_layers
from workbench.neurons.firing import FiringText


def test_layers_are_ranked_best_first_and_a_shared_column_shows_the_strongest() -> None:
    ranked = rank_layers(np.array([0, 0, 0, 1]), np.array([0.1, -0.9, 0.5, 0.3]), columns=2)
    assert ranked.layers.tolist() == [0, 1]
    assert ranked.rank.tolist() == [1, 3]
    assert ranked.index.tolist() == [[2, 1], [3, -1]]
    assert ranked.value[0].tolist() == [0.5, -0.9]
    assert np.isnan(ranked.value[1, 1])


def test_the_nearest_neurons_are_those_of_largest_cosine_in_size(tiny: Path, tmp_path: Path) -> None:
    with open_model(ModelRef(str(tiny)), open_store(tmp_path / "s.db")) as loaded:
        found = find_nearest_neurons(loaded, parse_address("L0.N3"), site="down", limit=5)
        blocks = loaded.anatomy.blocks
        vectors = torch.cat(
            [read_block_vectors(loaded.anatomy, b, loaded.parameters, "down", "none") for b in blocks]
        )
        cosines = torch.nn.functional.cosine_similarity(vectors, vectors[3:4])
    cosines[3] = 0.0
    best = cosines.abs().topk(5).indices.tolist()
    assert [str(address) for address, _ in found] == [f"L{i // 24}.N{i % 24}" for i in best]
    assert [cosine for _, cosine in found] == pytest.approx(cosines[best].tolist(), abs=1e-5)


def test_neighbours_lead_through_all_experts_and_end_at_both_ends(experts: Path, tmp_path: Path) -> None:
    with open_model(ModelRef(str(experts)), open_store(tmp_path / "s.db")) as loaded:
        around = [
            [None if a is None else str(a) for a in find_neighbours(loaded.anatomy, parse_address(name))]
            for name in ("L0.E0.N0", "L0.E1.N0", "L0.E3.N7")
        ]
    assert around == [[None, "L0.E0.N1"], ["L0.E0.N7", "L0.E1.N1"], ["L0.E3.N6", None]]


def test_an_excerpt_stands_around_the_peak_and_leaves_the_first_position_out() -> None:
    values = {"key": np.array([9.0, 0.0, 0.0, -2.0, 0.0, 1.0])}
    firing: Any = SimpleNamespace(tokens=tuple("abcdef"), values=values)
    part = cut_excerpt(firing, "key", before=1, after=1)
    assert (part.tokens, part.first, part.cut_before, part.cut_after) == (("c", "d", "e"), 2, True, True)
    assert FiringText.__dataclass_fields__.keys() >= {"tokens", "values"}
