"""Shared state of the clamps and observers of one forward step: positions, rules and reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import Clamp, ClampSite, Scope
from analysis.opening.models import LoadedModel

LAST_POSITION = 2**31 - 1
USED_VALUES = 1024
"""How many raw values of one clamp in × residual are recorded, of a text or a batch."""

See = Callable[[Block, ClampSite, Tensor, Tensor, Tensor], None]
"""Called with a block, a site, values (n, m), rows (n,) and positions (n,); padding left out."""


@dataclass
class Reach:
    """Per change, in order: how many positions its scope covered, and on how many it acted.

    The two differ only for a routed expert, which acts on the tokens routed to it; both stay 0 for changes
    that attach themselves. used: per change, the first USED_VALUES raw values of a clamp in × residual, by
    pass, row and position; none for others.
    abstained: the batch rows for which a guard refuses to answer. refusal: what the first guard would have
    them say; None where there is no guard.
    """

    covered: list[int] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)
    abstained: list[int] = field(default_factory=list)
    refusal: str | None = None
    used: list[list[float]] = field(default_factory=list)

    def note_used(self, index: int, values: Tensor) -> None:
        """Record raw values (n,) that a change put in."""
        while len(self.used) <= index:
            self.used.append([])
        room = USED_VALUES - len(self.used[index])
        self.used[index] += [float(f"{v:.6g}") for v in values[: max(room, 0)].float().tolist()]

    def add(self, other: Reach) -> None:
        """Add another step's counts."""
        self.covered = [a + b for a, b in _zip_longest(self.covered, other.covered)]
        self.acted = [a + b for a, b in _zip_longest(self.acted, other.acted)]
        self.abstained = sorted({*self.abstained, *other.abstained})
        for index, values in enumerate(other.used):
            self.note_used(index, torch.tensor(values))
        self.refusal = other.refusal if self.refusal is None else self.refusal

    def counts(self) -> dict[str, Any]:
        """The part that is stored with a text, as JSON; `Reach(**counts)` reads it."""
        counts = {"covered": self.covered, "acted": self.acted, "abstained": self.abstained}
        return counts | ({"used": self.used} if any(self.used) else {})


@dataclass(frozen=True)
class ClampPlan:
    """A clamp with its block, its place in the recipe, and the batch rows it acts on (None: all)."""

    clamp: Clamp
    block: Block
    index: int
    rows: Sequence[int] | None


@dataclass(frozen=True)
class ForwardStep:
    """What all hooks of one forward step share.

    prompt_length: in tokens, one for all rows or one a row. examples: a number for each row's example, by
    which random draws are keyed; None: 0 for all.
    """

    loaded: LoadedModel
    positions: Tensor
    prompt_length: int | Sequence[int]
    reach: Reach
    examples: Sequence[int] | None = None

    def mask(self, plan: ClampPlan) -> Tensor:
        """(B, T) whether the clamp's scope and rows include a position; padding excluded."""
        key = None if plan.rows is None else tuple(plan.rows), plan.clamp.scope
        if key not in self._masks:
            self._masks[key] = self.in_rows(plan.rows) & self._in_scope(plan.clamp.scope)
        return self._masks[key]

    def _in_scope(self, scope: Scope) -> Tensor:
        """(B, T) whether a scope includes a position; worked out once for all clamps with that scope."""
        if scope not in self._scopes:
            spans = [scope.interval(int(length)) for length in self.lengths]
            device = self.positions.device
            first = torch.tensor([max(first, 0) for first, _ in spans], device=device)[:, None]
            last = torch.tensor([min(last, LAST_POSITION) for _, last in spans], device=device)[:, None]
            self._scopes[scope] = (self.positions >= first) & (self.positions <= last)
        return self._scopes[scope]

    def in_rows(self, rows: Sequence[int] | None) -> Tensor:
        """(B, T) whether a position is in these rows of the batch (None: all); padding excluded."""
        real = self.positions >= 0
        if rows is None:
            return real
        chosen = torch.zeros(len(self.positions), 1, dtype=torch.bool, device=real.device)
        chosen[list(rows)] = True
        return real & chosen

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) each row's prompt length."""
        given = torch.as_tensor(self.prompt_length, device=self.positions.device)
        return given.expand(len(self.positions))

    @cached_property
    def _masks(self) -> dict[tuple[tuple[int, ...] | None, Scope], Tensor]:
        return {}

    @cached_property
    def _scopes(self) -> dict[Scope, Tensor]:
        return {}


class Handle(Protocol):
    """Undoes one attachment, such as torch's hook handles."""

    def remove(self) -> None:
        """Undo it."""


class Watch(Protocol):
    """Any other observer of a model during one step; it changes nothing."""

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach it; yields handles, each to be removed."""


@runtime_checkable
class AttachableChange(Protocol):
    """A change that attaches its own hooks: it changes activations, or reads them and abstains."""

    def check(self, loaded: LoadedModel) -> None:
        """Raise a HeadlampError if it cannot act on this model; changes nothing."""

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """Attach its hooks for one step, acting on some batch rows (None: all); yields handles."""


def apply_clamp(clamp: Clamp, values: Tensor, raw: Tensor | None = None) -> Tensor:
    """Apply a clamp's rule to activations of any shape. `raw` is in the activations' units.

    raw: a value for each activation, in place of the clamp's own (× residual).
    """
    if raw is not None:
        return values + raw.to(values) if clamp.mode == "add" else raw.to(values)
    assert clamp.raw is not None
    if clamp.mode == "add":
        return values + clamp.raw
    if clamp.mode == "scale":
        return values * clamp.raw
    return torch.full_like(values, 0.0 if clamp.mode == "ablate" else clamp.raw)


def _zip_longest(one: list[int], other: list[int]) -> Iterator[tuple[int, int]]:
    size = max(len(one), len(other))
    return zip(one + [0] * (size - len(one)), other + [0] * (size - len(other)), strict=True)
