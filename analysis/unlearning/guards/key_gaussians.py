"""A Gaussian over a set's keys in one layer, one variance per neuron: a density where a box has faces.

Headlamp's own; not the paper's. With z = (x − μ)/σ, a key's *score* is the mean over neurons of z² + 2 log
σ: up to constants −2/m · log density. Its depth is exp(½ (score − score of an average probe)), so that
depths in several sets compare as densities do, and 1 is an average probe's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import SkillError, TooFewExamples
from analysis.running.probing import Moments
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES

FLOOR = 1e-2
"""Smallest σ, × the median σ of the layer: a neuron that was still in all probes says nothing for certain."""

FURTHEST = 60.0
"""Largest log depth: e⁶⁰, which float32 holds."""


@dataclass(frozen=True, eq=False)
class KeyGaussian:
    """Mean and sigma (m,) float32 on the CPU of n probes' keys in one layer; sigma > 0."""

    layer: int
    mean: Tensor
    sigma: Tensor
    n: int

    def __post_init__(self) -> None:
        if self.mean.dim() != 1 or self.mean.shape != self.sigma.shape:
            raise SkillError(f"a Gaussian needs mean and sigma of one width, not {tuple(self.mean.shape)}")
        if not bool(torch.isfinite(self.mean).all()) or not bool((self.sigma > 0).all()):
            raise SkillError(f"the Gaussian of layer {self.layer} has invalid moments")

    @property
    def level(self) -> float:
        """The score of an average probe: 1 + mean of 2 log σ."""
        return 1 + 2 * float(self.sigma.double().log().mean())


def fit_gaussian(layer: int, moments: Moments) -> KeyGaussian:
    """The Gaussian of a layer from its probes' keys.

    Raises TooFewExamples under 30 probes, SkillError if the probes' keys are all equal.
    """
    if moments.count < FEWEST_PROBES:
        raise TooFewExamples(f"{moments.count} probes: a Gaussian needs at least {FEWEST_PROBES}")
    median = float(moments.deviation.median())
    if not median > 0:
        raise SkillError(
            f"at least half the neurons of layer {layer} have the same key for all {moments.count} probes; "
            "give more varied probes"
        )
    sigma = moments.deviation.clamp(min=FLOOR * median).float()
    return KeyGaussian(layer, moments.mean.float(), sigma, moments.count)


class Densities:
    """The Gaussians of one layer, prepared for repeated checks; the first one's level is depth 1."""

    def __init__(self, gaussians: Sequence[KeyGaussian]) -> None:
        self.mean = torch.stack([one.mean for one in gaussians])[:, None]
        self.inverse = torch.stack([1 / one.sigma.double() for one in gaussians]).float()[:, None]
        spread = [one.level - 1 for one in gaussians]
        self.shift = torch.tensor([value - gaussians[0].level for value in spread])[:, None]

    def depths(self, keys: Tensor) -> Tensor:
        """(n, sets) of keys (n, m), at most e^FURTHEST."""
        if keys.device != self.mean.device:
            self.mean, self.inverse, self.shift = (
                tensor.to(keys.device) for tensor in (self.mean, self.inverse, self.shift)
            )
        squares = torch.stack(
            [
                ((keys.float() - mean) * inverse).square_().mean(-1)
                for mean, inverse in zip(self.mean, self.inverse, strict=True)
            ]
        )
        half = (squares + self.shift) / 2
        return half.clamp(-FURTHEST, FURTHEST).exp().T
