"""Which neurons of a map a table shows, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import TokenKind
from workbench.neurons.decoding import DecodedModel, IntArray


@dataclass(frozen=True)
class NeuronFilter:
    """Which neurons a table shows, and in which order.

    layers: first and last, both included. minimum: smallest label probability. kinds: of the label; all if
    empty.
    end: whether the label is the top or the bottom token. order: `probability` (largest first), `entropy`
    (smallest first), `weight_norm` (largest first) or `address`.
    """

    layers: tuple[int, int] | None = None
    minimum: float = 0.0
    kinds: frozenset[TokenKind] = frozenset()
    end: Literal["top", "bottom"] = "top"
    order: Literal["probability", "entropy", "weight_norm", "address"] = "probability"


def filter_neurons(loaded: LoadedModel, decoded: DecodedModel, wanted: NeuronFilter) -> IntArray:
    """Indices of the neurons that pass the filter, in order."""
    label_p = decoded.probability(bottom=wanted.end == "bottom")[:, 0]
    keep = label_p >= wanted.minimum
    if wanted.layers is not None:
        keep &= (decoded.layer >= wanted.layers[0]) & (decoded.layer <= wanted.layers[1])
    if wanted.kinds:
        ids = decoded.top_ids if wanted.end == "top" else decoded.bottom_ids
        kinds = np.isin(loaded.vocabulary.kinds, sorted(wanted.kinds))
        keep &= kinds[ids[:, 0]]
    index = np.flatnonzero(keep)
    keys: dict[str, np.ndarray[Any, Any]] = {
        "probability": -label_p,
        "entropy": decoded.entropy,
        "weight_norm": -decoded.weight_norm,
        "address": np.arange(len(decoded)),
    }
    order = np.argsort(keys[wanted.order][index], kind="stable")
    return np.asarray(index[order], dtype=np.int32)
