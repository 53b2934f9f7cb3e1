"""Neurons whose label is a word against z-scores computed neuron by neuron."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.workbench.levers.levers_asked import loaded  # noqa: F401
from workbench.levers.labels import rank_labels


def standardise(loaded: LoadedModel, vectors: Tensor, tokens: list[int]) -> Tensor:
    """(m,) the largest |z| of some tokens among all of the vocabulary's logits."""
    head = loaded.model.get_output_embeddings().weight[: len(loaded.vocabulary)].double()
    logits = vectors.double() @ head.T
    z = (logits - logits.mean(-1, keepdim=True)) / logits.std(-1, correction=0, keepdim=True)
    return z[:, tokens].abs().amax(-1)


def dog_of(loaded: LoadedModel) -> list[int]:
    return [i for i, text in enumerate(loaded.vocabulary.texts) if text.strip().casefold() == "dog"]


def best(scores: dict[str, float], count: int) -> dict[str, float]:
    names = sorted(scores, key=lambda name: -scores[name])[:count]
    return {name: scores[name] for name in names}


@pytest.mark.parametrize(("site", "count"), [("down", 6), ("final", 3), ("up", 3), ("gate", 3)])
def test_the_neurons_with_the_largest_z_score_are_found(tiny: Path, site: str, count: int) -> None:
    loaded = load_model(ModelRef(str(tiny)))
    scores: dict[str, float] = {}
    norm = loaded.model.model.norm
    norm.weight.data = torch.linspace(0.5, 2.0, len(norm.weight))
    for number, layer in enumerate(loaded.model.model.layers):
        vectors = {
            "down": layer.mlp.down_proj.weight.T,
            "final": layer.mlp.down_proj.weight.T * norm.weight,
            "up": layer.mlp.up_proj.weight,
            "gate": layer.mlp.gate_proj.weight,
        }[site]
        for neuron, z in enumerate(standardise(loaded, vectors, dog_of(loaded)).tolist()):
            scores[f"L{number}.N{neuron}"] = z
    found = rank_labels(loaded, "dog", (), (site,), 6)
    assert {str(address): z for address, z in found.items()} == pytest.approx(best(scores, count), rel=1e-3)


def test_several_sites_give_each_neuron_once_with_its_largest_score(loaded: LoadedModel) -> None:
    sites = ("down", "final", "up", "gate")
    each = [rank_labels(loaded, "dog", (), (site,), 6) for site in sites]
    calls: list[tuple[int, int]] = []
    found = rank_labels(loaded, "dog", (), sites, 6, lambda *done: calls.append(done))
    assert found == {
        address: max(ranked.get(address, 0.0) for ranked in each) for ranked in each for address in ranked
    }
    assert len(calls) == 4 * len(loaded.anatomy.blocks)


def test_a_word_of_several_tokens_is_looked_for_by_its_first_ones(loaded: LoadedModel) -> None:
    texts = loaded.vocabulary.texts
    pieces = [texts.index("h"), texts.index("o"), texts.index("h")]
    found = rank_labels(loaded, "hot", pieces, ("down",), 4)
    layers = loaded.model.model.layers
    scores = {
        f"L{number}.N{neuron}": z
        for number, layer in enumerate(layers)
        for neuron, z in enumerate(standardise(loaded, layer.mlp.down_proj.weight.T, pieces).tolist())
    }
    assert {str(address): z for address, z in found.items()} == pytest.approx(best(scores, 4), rel=1e-3)


def test_a_model_without_gates_has_no_labels_there(plain: Path) -> None:
    loaded = load_model(ModelRef(str(plain)))
    assert rank_labels(loaded, "dog", (), ("gate",), 4) == {}
    assert len(rank_labels(loaded, "dog", (), ("down",), 4)) == 4
