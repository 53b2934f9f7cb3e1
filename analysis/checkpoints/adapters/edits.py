"""What an adapter does to one parameter: computed in float32, tile by tile, then rounded to its dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analysis.checkpoints.stored import Source

TILE = 1024
"""Output rows of a weight that are converted to float32 at a time."""


class Edit(Protocol):
    """A change of one parameter."""

    def apply(self, parameter: Tensor) -> None:
        """Change the parameter in place."""


@dataclass(frozen=True)
class LowRank:
    """W + scale · B A, and with DoRA its rows scaled to the lengths `magnitude`: W, (out, in), is the
    parameter, or its `place`.

    down: A (experts · r, in). up: B (out, r · experts), rank by rank. transposed: whether the parameter is
    (in, out). experts: how many weights of this form are stacked in it, one after the other. Hu et al. 2021,
    arXiv 2106.09685, §4.1; Liu et al. 2024, arXiv 2402.09353, equation 5.
    """

    down: Source
    up: Source
    scale: float
    transposed: bool = False
    experts: int = 1
    place: tuple[int | slice, ...] = ()
    magnitude: Source | None = None

    def apply(self, parameter: Tensor) -> None:
        """See Edit."""
        down, up = read_float(self.down, parameter), read_float(self.up, parameter)
        magnitude = None if self.magnitude is None else read_float(self.magnitude, parameter)
        rank = len(down) // self.experts
        for expert, weight in enumerate(self._weights(parameter)):
            own = down[expert * rank : (expert + 1) * rank]
            for start in range(0, len(weight), TILE):
                rows = weight[start : start + TILE]
                changed = rows.float() + self.scale * (up[start : start + TILE, expert :: self.experts] @ own)
                if magnitude is not None:
                    length = torch.linalg.vector_norm(changed, dim=1)
                    changed *= (magnitude[start : start + TILE] / length)[:, None]
                rows.copy_(changed)

    def _weights(self, parameter: Tensor) -> Iterator[Tensor]:
        """Each (out, in) weight, a view."""
        chosen = parameter[self.place] if self.place else parameter
        for weight in chosen if self.experts > 1 else [chosen]:
            yield weight.T if self.transposed else weight


@dataclass(frozen=True)
class Replaced:
    """The whole parameter replaced by another."""

    value: Source

    def apply(self, parameter: Tensor) -> None:
        """See Edit."""
        self.value.read_into(parameter)


@dataclass(frozen=True)
class RowsReplaced:
    """Some rows (n, d) replaced, those of the tokens with these ids."""

    rows: tuple[int, ...]
    value: Source

    def apply(self, parameter: Tensor) -> None:
        """See Edit."""
        parameter[list(self.rows)] = read_float(self.value, parameter).to(parameter.dtype)


@dataclass(frozen=True)
class Added:
    """A vector times `scale` added to a bias."""

    value: Source
    scale: float

    def apply(self, parameter: Tensor) -> None:
        """See Edit."""
        parameter.copy_(parameter.float() + self.scale * read_float(self.value, parameter))


def read_float(source: Source, like: Tensor) -> Tensor:
    """A tensor of the adapter in float32, on the device of a parameter."""
    out = torch.empty(source.shape, dtype=torch.float32)
    source.read_into(out)
    return out.to(like.device)
