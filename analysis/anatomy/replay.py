"""A block's own module run again with chosen gate and up values: the proof where no known activation fits.

Key values belong to gate and up place by place if tokens and neurons that change places take their key values
with them; a gate may also be weighed against the token's other gates (Gemma 3n's threshold). Up is the one in
which a key value is a straight line, whatever the other neurons' up values are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import WeightView
from analysis.anatomy.contract import agree, error

KeyOf = Callable[[Tensor, Tensor], Tensor]
"""(gate, up) → key, all (rows, m)."""


def replayed(module: nn.Module, x: Tensor, views: Sequence[WeightView], down: str) -> KeyOf:
    """The key values a module gives for x under chosen (gate, up); names are relative to the module."""
    projections = dict(module.named_modules())

    def key_of(gate: Tensor, up: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with ExitStack() as undo, torch.no_grad():
            for view, values in zip(views, (gate, up), strict=True):
                owner = projections[view.parameter.removesuffix(".weight")]
                undo.callback(owner.register_forward_hook(_giving(view, values)).remove)
            owner = projections[down]
            undo.callback(owner.register_forward_pre_hook(lambda m, args: seen.append(args[0])).remove)
            module(x)
        return seen[0].reshape(up.shape).clone()

    return key_of


def _giving(view: WeightView, values: Tensor) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[..., view.neurons] = values.reshape(changed[..., view.neurons].shape)
        return changed

    return hook


def is_gating(key_of: KeyOf, gate: Tensor, up: Tensor) -> bool:
    """Whether key values belong to (gate, up) place by place, a straight line in up and none in gate."""
    try:
        return _moves_along(key_of, gate, up) and _bends_in_gate_alone(key_of, gate, up)
    except Exception:  # a module that needs more than states cannot be run on its own, whatever it raises
        return False


def _moves_along(key_of: KeyOf, gate: Tensor, up: Tensor) -> bool:
    """Whether tokens and neurons that change places take their key values with them."""
    order = torch.Generator().manual_seed(0)
    rows, columns = (torch.randperm(n, generator=order).to(up.device) for n in up.shape)
    key = key_of(gate, up)
    return agree(key_of(gate[rows][:, columns], up[rows][:, columns]), key[rows][:, columns])


def _bends_in_gate_alone(key_of: KeyOf, gate: Tensor, up: Tensor) -> bool:
    key, none = key_of(gate, up), key_of(gate, torch.zeros_like(up))
    some = torch.arange(up.shape[1], device=up.device) % 2 == 0
    if not agree(key_of(gate, up * some), torch.where(some, key, none)):
        return False
    return _is_line(key_of(gate, up / 2), none, key) and not _is_line(
        key_of(gate / 2, up), key_of(torch.zeros_like(gate), up), key
    )


def _is_line(half: Tensor, none: Tensor, full: Tensor) -> bool:
    """Whether the value at half the way lies in the middle; a curve misses it by more than rounding."""
    return (
        error((none + full) / 2, half) < 1e-3
        if half.dtype == torch.float32
        else agree((none + full) / 2, half)
    )
