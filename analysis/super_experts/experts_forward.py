"""An experts implementation for transformers that computes each expert once and exposes its outputs.

A hook on a module of experts sees only their weighted sum. To see what each expert writes for each token, the
sum is computed here as transformers' grouped implementation does, and handed to the observer before the
routing weights are applied. Modules without an observer use the previous implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

NAME = "headlamp_watched"

SeePairs = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
"""Called with expert (S,), slot (S,) among the router's choices, token (S,), key (S, m) and output (S, d) of
the S (token, expert) pairs of a call, ordered by expert and then by token; `token` counts through the
flattened batch."""


@dataclass(frozen=True)
class _WatchedModule:
    """The observer of a module, and the module's previous implementation."""

    see: SeePairs
    before: str | None


_watched: WeakKeyDictionary[nn.Module, _WatchedModule] = WeakKeyDictionary()


def can_watch(model: PreTrainedModel, module: nn.Module) -> bool:
    """Whether a module's experts are called through transformers' experts interface."""
    decorated = hasattr(module, "has_gate") and hasattr(module, "_apply_gate")
    return decorated and bool(model._can_set_experts_implementation())


@dataclass
class ExpertWatch:
    """Expert modules that are observed until `remove` is called."""

    model: PreTrainedModel
    modules: dict[nn.Module, SeePairs]

    def __post_init__(self) -> None:
        self._before = self.model.get_experts_implementation()
        for module, see in self.modules.items():
            config: Any = module.config
            _watched[module] = _WatchedModule(see, config._experts_implementation)
        try:
            self.model.set_experts_implementation(NAME)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Restore the previous implementation."""
        self.model.set_experts_implementation(self._before)
        for module in self.modules:
            _watched.pop(module, None)


def watch_experts(model: PreTrainedModel, modules: dict[nn.Module, SeePairs]) -> Iterator[ExpertWatch]:
    """Observe modules that satisfy `can_watch`; yields one handle, to be removed."""
    if modules:
        yield ExpertWatch(model, modules)


def _forward(module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """Replacement for a module's own forward: (T, d), (T, k), (T, k) → (T, d)."""
    watched = _watched.get(module)
    if watched is None:
        return _run_previous(module, hidden_states, top_k_index, top_k_weights)
    expert, order = top_k_index.reshape(-1).sort(stable=True)
    token = order // top_k_index.shape[-1]
    ends = torch.bincount(expert, minlength=module.num_experts).cumsum(0).int()
    key = _keys(module, hidden_states[token], expert, ends)
    output = _products(module, "down_proj", key, expert, ends)
    watched.see(expert, order % top_k_index.shape[-1], token, key, output)
    weighted = output * top_k_weights.reshape(-1)[order, None]
    summed = torch.empty_like(weighted)
    summed[order] = weighted
    return summed.view(*top_k_index.shape, -1).sum(1).to(hidden_states.dtype)


def _keys(module: Any, x: Tensor, expert: Tensor, ends: Tensor) -> Tensor:
    """(S, m) inputs of the down projections; a function of its own, so that intermediates are freed."""
    if module.has_gate:
        return module._apply_gate(_products(module, "gate_up_proj", x, expert, ends))  # type: ignore[no-any-return]
    return module.act_fn(_products(module, "up_proj", x, expert, ends))  # type: ignore[no-any-return]


def _products(module: Any, name: str, x: Tensor, expert: Tensor, ends: Tensor) -> Tensor:
    """(S, n) of x (S, d), row by row with the matrix of that row's expert; rows are ordered by expert."""
    weight = getattr(module, name)
    weight = weight if module.is_transposed else weight.transpose(-2, -1)
    product = multiply_grouped if x.device.type != "cpu" else multiply_one_by_one
    result = product(x.to(weight.dtype), weight, ends)
    return result.add_(getattr(module, f"{name}_bias")[expert]) if module.has_bias else result


def multiply_grouped(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """(S, n): rows ends[e − 1] to ends[e] of x (S, d) times weights[e] (d, n), in one kernel."""
    return nn.functional.grouped_mm(x, weights, offs=ends)


def multiply_one_by_one(x: Tensor, weights: Tensor, ends: Tensor) -> Tensor:
    """The same, expert by expert: faster on a CPU."""
    result = x.new_empty(len(x), weights.shape[-1])
    start = 0
    for weight, end in zip(weights, ends.tolist(), strict=True):
        if end > start:
            torch.mm(x[start:end], weight, out=result[start:end])
        start = end
    return result


def _run_previous(module: Any, *args: Tensor) -> Tensor:
    """A model that shares an observed one's configuration: the previous implementation."""
    before = next((w.before for m, w in list(_watched.items()) if m.config is module.config), None)
    own = type(module).forward.__wrapped__
    forward = own if before in (None, "eager") else ALL_EXPERTS_FUNCTIONS.get(before, own)
    result: Tensor = forward(module, *args)
    return result


ALL_EXPERTS_FUNCTIONS.register(NAME, _forward)
