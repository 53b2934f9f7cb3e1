"""The proof that an anatomy is right: recompute head and blocks from its description (METHODS §0).

Every model that is opened passes through here once, so no page ever shows a misread layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from analysis.anatomy import Block, Head

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Largest allowed |difference| relative to the largest |value|: sums run in other orders than the model's."""


def reproduces_head(head: Head, parameters: Mapping[str, Tensor], normed: Tensor, logits: Tensor) -> bool:
    """Whether cap(scale · (W x + b)) of the last normed hidden state (…, d) gives the logits (…, V)."""
    return agree(head_logits(head, parameters, normed), logits)


def head_logits(head: Head, parameters: Mapping[str, Tensor], normed: Tensor) -> Tensor:
    """(…, V) logits of normed hidden states (…, d), with bias, scale and cap; float32."""
    weight = parameters[head.parameter].float()
    bias = None if head.bias is None else parameters[head.bias].float()
    logits = head.scale * nn.functional.linear(normed.float(), weight, bias)
    if head.soft_cap is not None:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    return logits


def reproduces_block(
    block: Block,
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    output: Tensor,
) -> bool:
    """Whether the description of a dense or shared block gives what its module gave."""
    return agree(block_output(block, module, parameters, inputs[0]), output)


def reproduces_experts(
    blocks: Sequence[Block],
    module: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    output: Tensor,
) -> bool:
    """Whether a module's routed experts, read by their layout one by one, sum up to what it gave.

    inputs: hidden states (tokens, d), chosen experts (tokens, k), routing weights (tokens, k).
    """
    hidden, chosen, weights = inputs[:3]
    total = torch.zeros_like(hidden)
    for number, block in enumerate(blocks):
        token, slot = torch.where(chosen == number)
        if len(token):
            written = block_output(block, module, parameters, hidden[token])
            total.index_add_(0, token, written * weights[token, slot, None].to(written.dtype))
    return agree(total, output)


def block_output(block: Block, module: nn.Module, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """(…, d) what a block writes for x (…, d), recomputed from its weights."""
    key = activate(module, *gate_and_up(block, parameters, x))
    output = nn.functional.linear(key, block.down.vectors(parameters).T)
    bias = block.down.biases(parameters)
    return output if bias is None else output + bias


def gate_and_up(
    block: Block, parameters: Mapping[str, Tensor], x: Tensor, neurons: Tensor | slice = slice(None)
) -> tuple[Tensor | None, Tensor]:
    """(…, n) the gate and up sites of some neurons of a block, for x (…, d)."""

    def project(view: Any) -> Tensor:
        bias = view.unit_biases(parameters)
        weight = view.vectors(parameters)[neurons]
        return nn.functional.linear(x, weight, None if bias is None else bias[neurons])

    return (None if block.gate is None else project(block.gate)), project(block.up)


def activate(module: Any, gate: Tensor | None, up: Tensor) -> Tensor:
    """The key site from gate and up, by the module's own activation (its own gating for fused experts)."""
    if not hasattr(module, "_apply_gate"):
        function = activation_of(module)
        key = function(up) if gate is None else function(gate) * up
    elif gate is None:
        key = module.act_fn(up)
    elif module.is_concatenated:
        key = module._apply_gate(torch.cat([gate, up], -1))
    else:
        key = module._apply_gate(torch.stack([gate, up], -1).flatten(-2))
    return cast(Tensor, key)


def activation_of(module: nn.Module) -> Any:
    """The activation function a block's module keeps, or None."""
    names = ("act_fn", "act", "activation_fn", "activation")
    return next((f for name in names if callable(f := getattr(module, name, None))), None)


def agree(ours: Tensor, theirs: Tensor) -> bool:
    """Equal up to the rounding of the model's own precision."""
    return ours.numel() == theirs.numel() and error(ours, theirs) <= TOLERANCE[theirs.dtype]


def error(ours: Tensor, theirs: Tensor) -> float:
    """Largest |difference| relative to the largest |value| of theirs; on the CPU, as MPS has no float64."""
    ours, theirs = (t.detach().cpu().double().reshape(-1) for t in (ours, theirs))
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9))
