"""Label agreement of two models: the share of neurons with the same label in both (METHODS §1).

Davies 2025, arXiv 2501.02688: agreement = mean over neurons of [top1_base = top1_tuned]; 75.4 %
for Llama 3.1 8B and its instruction-tuned model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.anatomy.anatomy import Anatomy
from analysis.errors import NotComparable
from analysis.opening.models import LoadedModel

METHOD_VERSION = "1"
IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]


@dataclass(frozen=True)
class LayerAgreement:
    """For one layer: how many of its neurons have the same label in both models."""

    layer: int
    same: int
    neurons: int

    @property
    def share(self) -> float:
        """0 to 1."""
        return self.same / self.neurons


@dataclass(frozen=True)
class Agreement:
    """Exact over all neurons at one site. changed: indices of those whose labels differ, in order."""

    layers: tuple[LayerAgreement, ...]
    changed: IntArray

    @property
    def share(self) -> float:
        """Over all neurons, 0 to 1."""
        return sum(layer.same for layer in self.layers) / sum(layer.neurons for layer in self.layers)


def compare_labels(layer: IntArray, base: IntArray, tuned: IntArray) -> Agreement:
    """Compare the labels (n,) of the same n neurons in two models; layer (n,): each neuron's."""
    if not layer.shape == base.shape == tuned.shape:
        raise ValueError(f"labels of different neurons: {layer.shape}, {base.shape}, {tuned.shape}")
    same = base == tuned
    layers = tuple(
        LayerAgreement(int(one), int(same[layer == one].sum()), int((layer == one).sum()))
        for one in np.unique(layer)
    )
    return Agreement(layers, np.flatnonzero(~same))


def check_comparable(base: LoadedModel, tuned: LoadedModel) -> None:
    """Raise NotComparable, naming the differences, unless both models have the same neurons and tokens."""
    differences = [*_anatomies(base.anatomy, tuned.anatomy), *_tokens(base, tuned)]
    if differences:
        raise NotComparable(
            f"{base.ref.name} and {tuned.ref.name} cannot be compared neuron by neuron: "
            f"{'; '.join(differences)}. compare a model with one that was fine-tuned from it"
        )


def _anatomies(base: Anatomy, tuned: Anatomy) -> list[str]:
    facts = {
        "architecture": (base.architecture, tuned.architecture),
        "layers": (base.layers, tuned.layers),
        "width": (base.d_model, tuned.d_model),
        "blocks": (len(base.blocks), len(tuned.blocks)),
        "neurons": (base.neurons, tuned.neurons),
    }
    told = [f"{name} {one} and {other}" for name, (one, other) in facts.items() if one != other]
    if told:
        return told
    for one, other in zip(base.blocks, tuned.blocks, strict=True):
        if (one.address, one.d_ff, one.gated) != (other.address, other.d_ff, other.gated):
            return [f"block {one.address} differs"]
    return []


def _tokens(base: LoadedModel, tuned: LoadedModel) -> list[str]:
    return _first_difference(base.vocabulary.texts, tuned.vocabulary.texts)


def _first_difference(base: Sequence[str], tuned: Sequence[str]) -> list[str]:
    if len(base) != len(tuned):
        return [f"vocabularies of {len(base)} and {len(tuned)} tokens"]
    for token, (one, other) in enumerate(zip(base, tuned, strict=True)):
        if one != other:
            return [f"token {token} is {one!r} and {other!r}"]
    return []
