"""Sums over the vocabulary of many neurons' logits, tile by tile: log Σ exp z, entropy, fourth moment."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.neurons.extremes import GROUP

STRIP = 131_072
"""Logits read together on each thread: so few that later passes find them in its core's cache."""

HIGHEST = 16.0
"""Largest z − centre that is exponentiated unchanged; nothing overflows, and little cancels, below it."""


class VocabularySums:
    """Sums over the tokens of n neurons' logits z (n, V), added a tile at a time.

    With t = z − centre − above: mass = Σ exp t, moment = Σ t · exp t, fourth = Σ (z − centre)⁴, all (n,),
    float32 inside a strip, float64 across. centre (n,) float32: close to the mean of z. above (n,): 0, or
    the largest z − centre where that exceeds HIGHEST.
    """

    def __init__(self, centre: Tensor) -> None:
        self.centre = centre.float()
        self.above = torch.zeros_like(self.centre)
        self.mass = torch.zeros_like(self.centre, dtype=torch.float64)
        self.moment, self.fourth = torch.zeros_like(self.mass), torch.zeros_like(self.mass)

    def add(self, z: Tensor, rows: slice, scratch: Tensor) -> tuple[Tensor, Tensor]:
        """Add logits z (n, v) of a tile, of any float dtype, to the sums of some rows; returns the largest
        and the smallest of every group of columns (n, ⌈v / GROUP⌉) float32.

        scratch: float32, two rows of v columns at least, for what the passes leave to each other.
        """
        n, v = z.shape
        high, low = torch.empty(2, n, -(-v // GROUP), device=z.device)
        found = torch.empty(3, n, device=z.device)
        strip = max(1, scratch.numel() // (2 * v))
        buffer = scratch.flatten()[: 2 * strip * v].view(2, strip, v)
        centre = self.centre[rows, None]
        for start in range(0, n, strip):
            part = slice(start, start + strip)
            _sum_strip(z[part], centre[part], buffer, high[part], low[part], found[:, part])
        self._count(z, rows, high.amax(-1), found.double())
        return high, low

    def measure_log_mass(self) -> Tensor:
        """(n,) float64: log Σ exp(z − centre)."""
        return self.above.double() + self.mass.log()

    def measure_entropy(self) -> Tensor:
        """(n,) float64, in nats: from 0 to log V."""
        return (self.mass.log() - self.moment / self.mass).clamp(min=0)

    def measure_kurtosis(self, deviation: Tensor, tokens: int) -> Tensor:
        """(n,) float64: Σ(z − centre)⁴ / (V σ⁴) − 3, at least −2; NaN where σ is 0."""
        found = self.fourth / (tokens * deviation.double().pow(4)) - 3
        return torch.where(deviation > 0, found, torch.nan)

    def _count(self, z: Tensor, rows: slice, largest: Tensor, found: Tensor) -> None:
        """Add mass, moment and fourth moment (3, n) of a tile; where a logit is too large for them, again."""
        above, over = self.above[rows].clone(), largest - self.centre[rows]
        new = torch.where(over > HIGHEST, torch.maximum(above, over), above)
        high = new.nonzero()[:, 0]
        if len(high):
            found[:2, high] = _sum_below(z[high].float() - self.centre[rows][high, None], new[high])
            drop = (above - new).double()
            self.moment[rows] = (self.moment[rows] + self.mass[rows] * drop) * drop.exp()
            self.mass[rows] *= drop.exp()
            self.above[rows] = new
        for total, one in zip((self.mass, self.moment, self.fourth), found, strict=True):
            total[rows] += one


def _sum_below(logits: Tensor, above: Tensor) -> Tensor:
    """(2, n) float64: Σ exp t and Σ t · exp t of t = logits − above."""
    below = logits - above[:, None]
    weight = below.exp()
    return torch.stack([weight.sum(-1), (weight * below).sum(-1)]).double()


def _sum_strip(z: Tensor, centre: Tensor, buffer: Tensor, high: Tensor, low: Tensor, found: Tensor) -> None:
    """Mass, moment and fourth moment (3, n) of a few rows, and the extremes of their groups, all in place."""
    below, weight = buffer[:, : len(z)]
    if z.dtype != torch.float32:
        z = below.copy_(z)
    _reduce_groups(z, high, low)
    torch.sub(z, centre, out=below)
    torch.mul(below, below, out=weight)
    torch.linalg.vector_norm(weight, dim=-1, out=found[2]).square_()
    torch.exp(below, out=weight)
    torch.sum(weight, -1, out=found[0])
    torch.sum(torch.mul(weight, below, out=below), -1, out=found[1])


def _reduce_groups(z: Tensor, high: Tensor, low: Tensor) -> None:
    """Fill in the largest and the smallest of every group of columns of z."""
    whole = z.shape[1] // GROUP
    groups = z[:, : whole * GROUP].unflatten(1, (whole, GROUP))
    torch.amax(groups, -1, out=high[:, :whole])
    torch.amin(groups, -1, out=low[:, :whole])
    if whole < high.shape[1]:
        high[:, whole] = z[:, whole * GROUP :].amax(-1)
        low[:, whole] = z[:, whole * GROUP :].amin(-1)
