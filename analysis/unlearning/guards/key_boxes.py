"""Key Space Detection: a box around a skill's keys.

Li, Hsu and Weng 2025, arXiv 2503.21730 (METHODS §4). A key is the key site of the last token of a query.

    box(α):  |x_j − μ_j| ≤ α · k · σ_j · (1 + 1e-5)  for every j
    k = max over probes and j of |x_j − μ_j| / σ_j,   σ_j ← max(σ_j, 1e-4 · median σ)

A key's *depth* is the smallest α whose box holds it. Guards that abstain inside boxes: `key_guards.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.running.probing import Moments

METHOD_VERSION = "1"
FEWEST_PROBES = 30
FLOOR = 1e-4
"""Smallest σ, × the median σ of the layer."""

SLACK = 1 + 1e-5
"""Rounding tolerance for a probe on the surface of the box."""


@dataclass(frozen=True, eq=False)
class KeyBox:
    """A box in one layer's key space. mean, sigma (m,) float32 on the CPU; sigma > 0.

    n: probes it was fitted on. k: largest |x − μ|/σ among them; own_k (m,) the same per neuron.
    """

    layer: int
    mean: Tensor
    sigma: Tensor
    k: float
    n: int
    own_k: Tensor

    def __post_init__(self) -> None:
        if self.mean.dim() != 1 or not self.mean.shape == self.sigma.shape == self.own_k.shape:
            raise SkillError(f"a box needs mean, sigma and k of one width, not {tuple(self.mean.shape)}")
        sound = bool(torch.isfinite(self.mean).all()) and bool((self.sigma > 0).all())
        if not sound or not 0 < self.k < math.inf:
            raise SkillError(f"the box of layer {self.layer} has invalid bounds")

    def depths(self, keys: Tensor) -> Tensor:
        """(…,) the smallest α whose box holds each key (…, m); inside box(α) ⇔ depth ≤ α · SLACK."""
        mean, sigma = self.mean.to(keys.device), self.sigma.to(keys.device)
        return ((keys.float() - mean).abs() / sigma).amax(-1) / self.k

    def deciding(self, key: Tensor, count: int = 10) -> list[tuple[int, float]]:
        """The neurons in which a key (m,) is furthest out, with |x − μ|/(k·σ), furthest first."""
        out = (key.float() - self.mean).abs() / self.sigma / self.k
        best = out.topk(min(count, len(out)))
        return [(int(i), float(v)) for v, i in zip(best.values, best.indices, strict=True)]


def fit_box(layer: int, moments: Moments) -> KeyBox:
    """The box of a layer from the moments of its probes' last keys.

    Raises TooFewExamples under 30 probes, SkillError if the probes' keys are all equal.
    """
    if moments.count < FEWEST_PROBES:
        raise TooFewExamples(
            f"{moments.count} probes: a box needs at least {FEWEST_PROBES}, otherwise every new query "
            "lies outside; give more examples, or a larger share of them as probes"
        )
    median = float(moments.deviation.median())
    if not median > 0:
        raise SkillError(
            f"at least half the neurons of layer {layer} have the same key for all {moments.count} probes, "
            "so no box can be fitted; give more varied probes"
        )
    mean = moments.mean.float()
    sigma = moments.deviation.clamp(min=FLOOR * median).float()
    furthest = torch.maximum(moments.high - mean.double(), mean.double() - moments.low)
    own_k = (furthest / sigma.double()).float()
    return KeyBox(layer, mean, sigma, float(own_k.max()), moments.count, own_k)


def dense_block(loaded: LoadedModel, layer: int) -> Block:
    """The single dense block of a layer. Raises SkillError for a layer of experts or without a block."""
    found = [b for b in loaded.anatomy.blocks if b.address.layer == layer]
    if [b.address for b in found] != [BlockAddress(layer)]:
        dense = sorted(b.address.layer for b in loaded.anatomy.blocks if b.address.expert is None)
        raise SkillError(
            f"layer {layer} has no dense FFN block; choose "
            + (f"one of {', '.join(f'L{n}' for n in dense)}" if dense else "another model: this one has none")
        )
    return found[0]


def dense_layers(loaded: LoadedModel) -> tuple[int, ...]:
    """The layers in which a box can be fitted."""
    return tuple(b.address.layer for b in loaded.anatomy.blocks if b.address.expert is None)


def fit_boxes(
    moments: Mapping[tuple[BlockAddress, Any], Moments], layers: Sequence[int]
) -> tuple[KeyBox, ...]:
    """The box of each layer."""
    return tuple(fit_box(layer, moments[BlockAddress(layer), "key"]) for layer in layers)
