"""Attention sinks: how much attention rests on the first token, per layer and head (METHODS §3).

    sink mass = Σ_t p_{t,0} / Σ_t 1      over queries t ≥ 8 that can see the first token (windows, padding)
    decay     = 1 − Σ_t p'_{t,0} / Σ_t p_{t,0} per head, mean over heads whose base sink mass ≥ 0.1

Measured while the model's own attention runs, through an attention function registered with transformers.
Scores are computed a few queries at a time and only the mass is kept, so no T × T matrix is stored. A
layer's output is recomputed for a few queries: if that differs, its attention is of another kind, and the
layer is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.anatomy.tracing import layer_of, stack_and_number
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.super_experts.attention_calls import (
    KNOWN,
    AttentionCall,
    AttentionWatch,
    SeeCall,
    implementations,
)

FIRST_QUERY = 8
"""Earlier queries see so few tokens that much attention is on the first one anyway."""
SINK = 0.1
"""Smallest sink mass of a head that counts as an attention sink."""
_SCORES = 1 << 22
"""Attention scores in memory at once."""
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class SinkSums:
    """Sums over queries, of L layers with at most H heads; sums of several texts add up.

    mass, learned (L, H): attention on the first token, and on the layer's learned sink; NaN where a layer or
    head has none, or is unknown. uniform (L, H): Σ 1/(t + 1), the sum for even attention.
    queries (L, H): how many were summed over.
    """

    mass: Array
    learned: Array
    uniform: Array
    queries: Array

    def __post_init__(self) -> None:
        if len({getattr(self, one.name).shape for one in fields(self)}) != 1 or self.mass.ndim != 2:
            raise ValueError("sink sums are arrays (L, H)")

    def __add__(self, other: SinkSums) -> SinkSums:
        return SinkSums(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def masses(self) -> Array:
        """(L, H) in [0, 1]; NaN where there is none."""
        return self._per_query(self.mass)

    @property
    def learned_masses(self) -> Array:
        """(L, H) in [0, 1]: on learned sinks (gpt-oss), which are no token."""
        return self._per_query(self.learned)

    @property
    def even(self) -> Array:
        """(L, H) the mean of 1/(t + 1): the mass that attention spread evenly would have."""
        return self._per_query(self.uniform)

    def _per_query(self, sums: Array) -> Array:
        return np.asarray(sums / np.where(self.queries > 0, self.queries, np.nan))


def measure_sink_decay(base: SinkSums, changed: SinkSums) -> tuple[list[float | None], list[int]]:
    """(per layer the mean decay of the heads that have a sink in base, or None; how many those are)."""
    has = np.nan_to_num(base.masses) >= SINK
    decays = 1 - changed.mass / np.where(has, base.mass, np.nan)
    return [
        float(layer[here].mean()) if here.any() else None for layer, here in zip(decays, has, strict=True)
    ], [int(here.sum()) for here in has]


@dataclass
class _Sums:
    """(H,) each; see SinkSums."""

    mass: Tensor
    learned: Tensor | None
    uniform: Tensor
    queries: Tensor


@dataclass
class WatchSinks:
    """Measures attention sinks over all steps it is attached to; `sums` returns the result."""

    loaded: LoadedModel
    _layers: dict[int, _Sums | None] = field(default_factory=dict)

    @property
    def why_not(self) -> str:
        """Why sinks cannot be measured in this model; empty if they can."""
        model = self.loaded.model
        if not model._can_set_attn_implementation():
            return f"the attention of {self.loaded.anatomy.architecture} cannot be observed"
        below = set(implementations(model).values())
        if below - set(KNOWN):
            return f"sinks are measured under {' and '.join(KNOWN)} attention, not under {below}"
        return ""

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach it; yields a handle, to be removed. Measures nothing if `why_not` is not empty."""
        if not self.why_not:
            numbers = {layer_of(b.module): b.address.layer for b in self.loaded.anatomy.blocks}
            named = [(layer_of(name), module) for name, module in self.loaded.model.named_modules()]
            layers = {module: numbers.get(name, stack_and_number(name)[1]) for name, module in named if name}
            see: dict[nn.Module, SeeCall] = {
                module: partial(self._see, number, step.positions) for module, number in layers.items()
            }
            yield AttentionWatch(self.loaded.model, see)

    def sums(self) -> SinkSums:
        """The measured sums; NaN for layers without such attention."""
        known = {number: sums for number, sums in self._layers.items() if sums is not None}
        layers = max(self.loaded.anatomy.layers, 1 + max(known, default=0))
        heads = max((len(sums.mass) for sums in known.values()), default=1)
        found = SinkSums(*np.full((2, layers, heads), np.nan), *np.zeros((2, layers, heads)))
        for number, sums in known.items():
            for one in fields(sums):
                value: Tensor | None = getattr(sums, one.name)
                if value is not None:
                    getattr(found, one.name)[number, : len(value)] = value.cpu().double().numpy()
        return found

    def _see(self, layer: int, positions: Tensor, call: AttentionCall, output: Tensor) -> None:
        """Process one layer's attention in one step. output (B, T, H, dv)."""
        if layer not in self._layers:
            none = call.query.new_zeros(call.query.shape[1], dtype=torch.float32)
            self._layers[layer] = _Sums(none, None, none, none) if call.gives(output) else None
        sums = self._layers[layer]
        if sums is None:
            return
        size = max(_SCORES // (call.key.shape[-2] * call.query.shape[1] * len(call.query)), 1)
        for start in range(0, call.query.shape[2], size):
            part = slice(start, start + size)
            p, learned = call.probabilities(part)
            counts = call.sees(part)[..., 0] & (positions[:, None, part] >= FIRST_QUERY)
            counts = counts.expand(p.shape[:3])
            sums.mass = sums.mass + p[..., 0].where(counts, 0.0).sum((0, 2))
            if learned is not None:
                extra = learned.where(counts, 0.0).sum((0, 2))
                sums.learned = extra if sums.learned is None else sums.learned + extra
            sums.queries = sums.queries + counts.sum((0, 2))
            sums.uniform = sums.uniform + (counts / (positions[:, None, part] + 1)).sum((0, 2))
