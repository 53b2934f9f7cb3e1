"""The LM head for decoding: rows, sums over the vocabulary, and tiles that bound memory."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Anatomy

NEURON_TILE = 512
VOCAB_TILE = 8_192
"""Neurons and tokens of one tile: peak memory depends on it, never on FFN width × vocabulary."""


ROUNDED_BYTES = 1 << 28
"""Largest copy of a head in bfloat16 that is kept; of larger heads it is made tile by tile."""


@dataclass(frozen=True)
class HeadRounding:
    """What rounding a head's rows to bfloat16 does.

    lengths (V,) float32: ‖h‖ before; mean (d,) float64: of the tokens' rows after; exact: whether it changes
    nothing; rows (V, d) bfloat16: the rounded rows, None where they exceed ROUNDED_BYTES.
    """

    lengths: Tensor
    mean: Tensor
    exact: bool
    rows: Tensor | None


@dataclass(frozen=True)
class HeadMatrix:
    """The head's linear part over the tokenizer's vocabulary, float32.

    rows (V, d) = scale · W_U, the model's own tensor if equal; mean (d,) and covariance (d, d) of
    the rows, float64, for μ_z and σ_z. holes: ids that no token has; sums and tiles leave their rows out.
    spreads: μ_z and σ_z of the vectors that were measured under a name.
    """

    rows: Tensor
    mean: Tensor
    covariance: Tensor
    holes: tuple[int, ...] = ()
    spreads: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def vocab(self) -> int:
        """How many rows there are, holes among them."""
        return self.rows.shape[0]

    @property
    def tokens(self) -> int:
        """How many tokens can be labels."""
        return self.vocab - len(self.holes)

    def tile(self, start: int, size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor | None]:
        """The rows (v, d) of `size` ids from `start`, and their ids (v,); None: they are consecutive."""
        rows = self.rounding.rows if dtype == torch.bfloat16 else self.rows
        kept, ids = _without_holes(
            (self.rows if rows is None else rows)[start : start + size], start, self.holes
        )
        return kept.to(dtype), ids

    @cached_property
    def rounding(self) -> HeadRounding:
        """What rounding the rows to bfloat16 does; measured once."""
        total = torch.zeros(self.rows.shape[1], dtype=torch.float64, device=self.rows.device)
        exact = True
        for start in range(0, self.vocab, VOCAB_TILE):
            rows = self.tile(start, VOCAB_TILE)[0]
            rounded = rows.bfloat16().float()
            exact = exact and torch.equal(rounded, rows)
            total += rounded.double().sum(0)
        lengths = torch.linalg.vector_norm(self.rows, dim=-1)
        small = 2 * self.rows.numel() <= ROUNDED_BYTES
        return HeadRounding(lengths, total / self.tokens, exact, self.rows.bfloat16() if small else None)

    def measure_spread(self, vectors: Tensor, name: Hashable = None) -> tuple[Tensor, Tensor]:
        """μ_z and σ_z (n,) float64 over the vocabulary, of vectors (n, d): μ = w·m, σ² = wᵀ C w (METHODS §1).

        Needs only the head's mean m and covariance C, not the logits. name: of vectors that never change;
        they are measured once.
        """
        if name in self.spreads:
            return self.spreads[name]
        w = vectors.double()
        variance = ((w @ self.covariance) * w).sum(-1)
        spread = w @ self.mean, variance.clamp(min=0).sqrt()
        if name is not None:
            self.spreads[name] = spread
        return spread


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
    or two tiles of logits and the vectors of one, and the head rounded to bfloat16."""
    sums = 8 * width * (min(vocab, 2 * VOCAB_TILE) + 4 * width)
    rounded = 2 * width * (vocab if 2 * width * vocab <= ROUNDED_BYTES else VOCAB_TILE)
    return rounded + max(sums, 4 * NEURON_TILE * (2 * min(vocab, VOCAB_TILE) + 2 * width))


def exact(weight: Tensor) -> Tensor:
    """Float32 rows, moved off MPS, which lacks float64 for sums and deviations."""
    return (weight.cpu() if weight.device.type == "mps" else weight).float().contiguous()
