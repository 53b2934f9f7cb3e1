"""Proof by replay: a block's own module is run with chosen gate and up values if no known activation fits.

Key values correspond to gate and up elementwise if permuting tokens and neurons permutes the key values; a
gate may also be compared with the token's other gates (Gemma 3n's threshold). Up is the input in which a
key value is linear, whatever the other neurons' up values are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import WeightView
from analysis.anatomy.contract import agree, relative_error

KeyOf = Callable[[Tensor, Tensor], Tensor]
"""(gate, up) → key, all (rows, m)."""


def replay_keys(module: nn.Module, x: Tensor, views: Sequence[WeightView], down: str) -> KeyOf:
    """The key values a module gives for x with chosen (gate, up); names are relative to the module."""
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
    """Whether key values depend elementwise on (gate, up), linearly on up and nonlinearly on gate."""
    try:
        return _moves_along(key_of, gate, up) and _bends_in_gate_alone(key_of, gate, up)
    except Exception:  # a module that needs more than states cannot be run alone, whatever it raises
        return False


def _moves_along(key_of: KeyOf, gate: Tensor, up: Tensor) -> bool:
    """Whether permuted tokens and neurons permute their key values."""
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
    """Whether the value at the midpoint is the mean; a curve misses it by more than rounding."""
    return (
        relative_error((none + full) / 2, half) < 1e-3
        if half.dtype == torch.float32
        else agree((none + full) / 2, half)
    )
