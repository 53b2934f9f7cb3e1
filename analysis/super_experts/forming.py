"""Which blocks form massive activations (METHODS §3, rule `forms`).

At a massive (token, dimension) after layer l, with s = sign h and u what block (l, e) adds there:

    (l, e) forms it   ⇔   s · u ≥ ½ s · (h_after − h_before)   and   s · Σ FFN ≥ ½ |h|
    formed jointly    ⇔   the FFN reaches both halves, no block of it the first: its two largest

No scale enters, so that the rule is the same for a few experts, for thousands, and for dense blocks. Per
window; results of several windows are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.intervening.steps import ForwardStep, Handle
from analysis.super_experts.contributions import Contributions, LayerCalls, Places, read_contributions
from analysis.super_experts.residual_layers import ResidualLayer
from analysis.super_experts.residuals import SUPPLIED, MassiveHere

Array = np.ndarray[Any, Any]
HALF = SUPPLIED
"""The share of the change, and of the value, that forming takes."""
NEAR = 0.25
"""The FFN's smallest share of a value at which it is a near miss; below it nothing is looked at."""


@dataclass(frozen=True)
class BlockForming:
    """How n blocks take part in forming massive activations, (n,) each.

    formed: windows in which the block forms one; jointly: in which it is one of the two largest of one that
    is formed jointly; unknown: in which its part cannot be told. share: its largest part s · u / s · (change)
    where the FFN supplies half of h, float32; 0: none. added: u there; token, dimension, column: where, and
    the neuron that supplies most of it; NOWHERE without a share. apart: the FFN's largest share of h, below
    ½, where the block supplies half of the change; 0: none.
    """

    formed: Array
    jointly: Array
    unknown: Array
    share: Array
    added: Array
    token: Array
    dimension: Array
    column: Array
    apart: Array

    def __post_init__(self) -> None:
        if len({getattr(self, one.name).shape for one in fields(self)}) != 1 or self.formed.ndim != 1:
            raise ValueError("BlockForming are arrays (n,), one entry per block")

    @classmethod
    def empty(cls, blocks: int) -> BlockForming:
        """An empty result."""
        real = ("share", "added", "apart")
        places = ("token", "dimension", "column")
        found = {
            one.name: np.zeros(blocks, np.float32 if one.name in real else np.int32) for one in fields(cls)
        }
        return cls(**found | {name: np.full(blocks, -1, np.int32) for name in places})


@dataclass
class WatchForming:
    """Measures which blocks form the massive activations of one step; `forming` holds the result.

    Attach it before the observer of residuals, which calls `note` once a layer has ended.
    """

    layers: Sequence[ResidualLayer]
    blocks: Sequence[Block]
    forming: BlockForming = field(init=False)
    _calls: list[LayerCalls] = field(default_factory=list)
    _numbers: list[list[int]] = field(default_factory=list)
    _before: dict[int, Tensor] = field(default_factory=dict)
    _step: ForwardStep = field(init=False)

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach it; yields handles, each to be removed."""
        self.forming, self._step = BlockForming.empty(len(self.blocks)), step
        for at, layer in enumerate(self.layers):
            mine = [i for i, block in enumerate(self.blocks) if block.address.layer == layer.number]
            self._numbers.append(mine)
            self._calls.append(LayerCalls([self.blocks[i] for i in mine]))
            yield from self._calls[at].attach(step)
            module = step.loaded.model.get_submodule(layer.module)
            yield module.register_forward_pre_hook(self._keep(at), with_kwargs=True)

    def _keep(self, at: int) -> Callable[..., None]:
        """Keep the residual before a layer: the first of its inputs."""

        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            given = [v for v in (*args, kwargs.get("hidden_states")) if isinstance(v, Tensor)]
            if given:
                self._before[at] = given[0]

        return hook

    def note(self, at: int, here: MassiveHere | None) -> None:
        """Take in what is massive after layer `at` (None: nothing), and let go of what was kept for it."""
        before = self._before.pop(at, None)
        if here is not None:
            self._note(at, here, before)
        self._calls[at].forget()

    def _note(self, at: int, here: MassiveHere, before: Tensor | None) -> None:
        writer, written = self.layers[at].writer, here.written
        if writer is None or written is None or before is None or before.shape != written.shape:
            for number in self._numbers[at]:
                self.forming.unknown[number] += len(here.row.unique())
            return
        where = here.row, here.position, here.dimension
        sign = here.h.sign()
        supplied = sign * written[where].float() * writer.factor / here.h.abs()
        change = sign * (here.h - before[where].float())
        near = torch.where((supplied >= NEAR) & (change > 0))[0]
        if not len(near):
            return
        row, position, dimension = (t[near] for t in where)
        places = Places(row * before.shape[1] + position, dimension)
        found = read_contributions(self._step, self._calls[at], places, written, writer)
        share = sign[near, None] * found.added / change[near, None]
        whole = supplied[near] * here.h[near].abs() / change[near]
        self._take(at, places, found, *(t.cpu().numpy() for t in (share, whole, supplied[near], row)))

    def _take(
        self,
        at: int,
        places: Places,
        found: Contributions,
        share: Array,
        whole: Array,
        supplied: Array,
        row: Array,
    ) -> None:
        """share (k, n): a block's part of the change; whole (k,): the FFN's; supplied (k,): that of h."""
        numbers = np.array(self._numbers[at])
        enough = (supplied >= HALF)[:, None]
        alone = enough & (share >= HALF)
        known = ~np.isnan(share).any(1)
        joint = enough[:, 0] & known & (whole >= HALF) & ~alone.any(1)
        pair = np.zeros_like(alone)
        np.put_along_axis(pair, np.argsort(-share, axis=1)[:, :2], True, axis=1)
        pair &= joint[:, None] & (share > 0) & (share.shape[1] > 1)
        for window in np.unique(row):
            mine = row == window
            self.forming.formed[numbers] += alone[mine].any(0)
            self.forming.jointly[numbers] += pair[mine].any(0)
            self.forming.unknown[numbers] += (np.isnan(share) & enough)[mine].any(0)
        apart = np.where(~enough & (share >= HALF), supplied[:, None], 0.0).max(0)
        self.forming.apart[numbers] = np.maximum(self.forming.apart[numbers], apart)
        self._place(numbers, places, found, np.where(enough & (share > 0), share, 0.0))

    def _place(self, numbers: Array, places: Places, found: Contributions, share: Array) -> None:
        """Where each block's share is largest; share (k, n), 0 where it does not count."""
        added, column, token, dimension = (
            t.cpu().numpy() for t in (found.added, found.column, places.token, places.dimension)
        )
        for member, number in enumerate(numbers):
            best = int(share[:, member].argmax())
            if share[best, member] > 0:
                self.forming.share[number] = share[best, member]
                self.forming.added[number] = added[best, member]
                self.forming.token[number] = token[best]
                self.forming.dimension[number] = dimension[best]
                self.forming.column[number] = column[best, member]
