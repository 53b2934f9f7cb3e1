"""What clamps and observers of one forward step share: where they act, what they do, how far they reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from analysis.anatomy import Block
from analysis.clamps import Clamp, ClampSite
from analysis.models import LoadedModel

See = Callable[[Block, ClampSite, Tensor, Tensor, Tensor], None]
"""Called with a block, a site, values (n, m), rows (n,) and positions (n,); padding left out."""


@dataclass
class Reach:
    """Per change, in order: how many positions its scope covered and on how many of them it acted.

    The two differ for a routed expert only, which acts where its router sent the token.
    """

    covered: list[int] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)

    def add(self, other: Reach) -> None:
        """Sum another step's counts into this one."""
        self.covered = [a + b for a, b in _zip_longest(self.covered, other.covered)]
        self.acted = [a + b for a, b in _zip_longest(self.acted, other.acted)]


@dataclass(frozen=True)
class Plan:
    """A clamp with its block, its place in the recipe, and the batch rows it acts on (None: all)."""

    clamp: Clamp
    block: Block
    index: int
    rows: Sequence[int] | None


@dataclass(frozen=True)
class Step:
    """What all hooks of one forward step share."""

    loaded: LoadedModel
    positions: Tensor
    prompt_length: int
    reach: Reach

    def mask(self, plan: Plan) -> Tensor:
        """(B, T) where the clamp's scope and rows are, padding left out."""
        first, last = plan.clamp.scope.interval(self.prompt_length)
        inside = (self.positions >= max(first, 0)) & (self.positions <= last)
        return inside & self.in_rows(plan.rows)

    def in_rows(self, rows: Sequence[int] | None) -> Tensor:
        """(B, T) where these rows of the batch are, all where None; padding left out."""
        real = self.positions >= 0
        if rows is None:
            return real
        chosen = torch.zeros(len(self.positions), 1, dtype=torch.bool, device=real.device)
        chosen[list(rows)] = True
        return real & chosen


class Handle(Protocol):
    """What undoes one attachment, such as torch's hook handles."""

    def remove(self) -> None:
        """Undo it."""


class Watch(Protocol):
    """Whatever else reads a model during one step; it changes nothing."""

    def attach(self, step: Step) -> Iterator[Handle]:
        """Attach it; yields handles, each to be removed."""


def change(clamp: Clamp, values: Tensor) -> Tensor:
    """The clamp's rule applied to activations of any shape. `raw` is in the activations' own units."""
    assert clamp.raw is not None
    if clamp.mode == "add":
        return values + clamp.raw
    if clamp.mode == "scale":
        return values * clamp.raw
    return torch.full_like(values, 0.0 if clamp.mode == "ablate" else clamp.raw)


def _zip_longest(one: list[int], other: list[int]) -> Iterator[tuple[int, int]]:
    size = max(len(one), len(other))
    return zip(one + [0] * (size - len(one)), other + [0] * (size - len(other)), strict=True)
