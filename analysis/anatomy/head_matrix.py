"""The LM head for decoding: rows, sums over the vocabulary, and tiles that bound memory."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Anatomy

NEURON_TILE = 1024
VOCAB_TILE = 16_384
"""Neurons and tokens of one tile: peak memory depends on it, never on FFN width × vocabulary."""


@dataclass(frozen=True)
class HeadMatrix:
    """The head's linear part over the tokenizer's vocabulary, float32.

    rows (V, d) = scale · W_U, the model's own tensor if equal; mean (d,) and covariance (d, d) of
    the rows, float64, for μ_z and σ_z. holes: ids that no token has; sums and tiles leave their rows out.
    """

    rows: Tensor
    mean: Tensor
    covariance: Tensor
    holes: tuple[int, ...] = ()

    @property
    def vocab(self) -> int:
        """How many rows there are, holes among them."""
        return self.rows.shape[0]

    @property
    def tokens(self) -> int:
        """How many tokens can be labels."""
        return self.vocab - len(self.holes)

    def tile(self, start: int, size: int) -> tuple[Tensor, Tensor | None]:
        """The rows (v, d) of `size` ids from `start`, and their ids (v,); None: they are consecutive."""
        return _without_holes(self.rows[start : start + size], start, self.holes)

    def measure_spread(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """μ_z and σ_z (n,) float64 over the vocabulary, of vectors (n, d): μ = w·m, σ² = wᵀ C w (METHODS §1).

        Needs only the head's mean m and covariance C, not the logits.
        """
        w = vectors.double()
        variance = ((w @ self.covariance) * w).sum(-1)
        return w @ self.mean, variance.clamp(min=0).sqrt()


def _without_holes(rows: Tensor, start: int, holes: Collection[int]) -> tuple[Tensor, Tensor | None]:
    """Rows of ids from `start` on, without holes, and the ids that are left; None if all are."""
    own = [hole - start for hole in holes if start <= hole < start + len(rows)]
    if not own:
        return rows, None
    kept = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    kept[own] = False
    left = kept.nonzero()[:, 0]
    return rows[left], left + start


def read_head_matrix(
    anatomy: Anatomy, parameters: Mapping[str, Tensor], vocab: int, holes: Collection[int] = ()
) -> HeadMatrix:
    """The head matrix for decoding, without rows beyond the tokenizer's `vocab`, nor those of `holes`."""
    rows = exact(parameters[anatomy.head.parameter][:vocab])
    if anatomy.head.scale != 1:
        rows = rows * anatomy.head.scale
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    square = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, len(rows), VOCAB_TILE):
        part = _without_holes(rows[start : start + VOCAB_TILE], start, holes)[0].double()
        total += part.sum(0)
        square += part.T @ part
    count = len(rows) - len(holes)
    mean = total / count
    return HeadMatrix(rows, mean, square / count - torch.outer(mean, mean), tuple(sorted(holes)))


def decoding_bytes(vocab: int, width: int) -> int:
    """Peak memory of decoding a block, in bytes, without head and weights: sums over the head in float64,
    or four tiles of logits and the vectors of one."""
    sums = 8 * width * (min(vocab, 2 * VOCAB_TILE) + 4 * width)
    return max(sums, 4 * NEURON_TILE * (4 * min(vocab, VOCAB_TILE) + 2 * width))


def exact(weight: Tensor) -> Tensor:
    """Float32 rows, moved off MPS, which lacks float64 for sums and deviations."""
    return (weight.cpu() if weight.device.type == "mps" else weight).float().contiguous()
