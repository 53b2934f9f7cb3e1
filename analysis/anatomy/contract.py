"""Proof of an anatomy: recompute head and blocks from its description and compare (METHODS §0).

Runs once for every model that is opened, so a misread layout is never shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from analysis.anatomy.anatomy import Block, Head, WeightView
from analysis.anatomy.routing import read_share
from analysis.anatomy.tracing import Call, same

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9, torch.float16: 1e-2, torch.bfloat16: 4e-2}
"""Largest allowed |difference| relative to the largest |value|: the order of summation differs."""

HEAD_TILE = 256
"""Rows of the head converted to float32 at a time."""

_NOT_TRIED = ("linear", "xielu")
"""ACT2FN entries that are not elementwise nonlinearities, or have weights."""


def reproduces_head(head: Head, parameters: Mapping[str, Tensor], normed: Tensor, logits: Tensor) -> bool:
    """Whether cap(scale · (W x + b)) of the last normed hidden state (…, d) gives the logits (…, V).

    Rows of the head that only pad the vocabulary may be unused: V is the number of logits.
    """
    return agree(head_logits(head, parameters, normed)[..., : logits.shape[-1]], logits)


def head_logits(head: Head, parameters: Mapping[str, Tensor], normed: Tensor) -> Tensor:
    """(…, V) logits from normed hidden states (…, d), with bias, scale and cap; float32."""
    weight = parameters[head.parameter]
    x = normed.to(weight.device, torch.float32)
    tile = weight.new_empty((HEAD_TILE, weight.shape[1]), dtype=torch.float32)
    parts = [nn.functional.linear(x, tile[: len(rows)].copy_(rows)) for rows in weight.split(HEAD_TILE)]
    logits = torch.cat(parts, -1)
    if head.bias is not None:
        logits = logits + parameters[head.bias].float()
    logits = head.scale * logits
    if head.soft_cap is not None:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    return logits


def reproduces_projections(block: Block, parameters: Mapping[str, Tensor], first: Call, down: Call) -> bool:
    """Whether a block's described weights reproduce its projections' outputs: up and gate, then down.

    first, down: the calls of the projection that reads the block's input and of the one that writes.
    """
    x, key = first.inputs[0], down.inputs[0]
    gate, up = gate_and_up(block, parameters, x)
    sides = [(block.up, up)] if gate is None or block.gate is None else [(block.up, up), (block.gate, gate)]
    of_first = [
        agree(ours, select_outputs(view, first.output))
        for view, ours in sides
        if view.parameter == f"{first.name}.weight"
    ]
    written = nn.functional.linear(key, block.down.vectors(parameters).T, block.down.biases(parameters))
    return all(of_first) and agree(written, down.output)


def select_outputs(view: WeightView, output: Tensor) -> Tensor:
    """(…, m) the part of a projection's output that belongs to a view's neurons."""
    return output[..., view.neurons]


def nearest_activation(key: Tensor, gate: Tensor | None, up: Tensor, calls: Sequence[Call]) -> float:
    """The smallest error over activations in key = act(up), or act(gate) · up; all (n, m).

    Candidates: transformers' activations and every module of the layer with the same input.
    """
    key = key.float().cpu()  # where the weights of the activations that have any are
    inner = up if gate is None else gate
    factor = torch.ones(()) if gate is None else up.float().cpu()
    errors = [relative_error(a(inner.float().cpu()) * factor, key) for a in _activations()]
    for call in calls:
        if same(call.inputs[0], inner) and call.output.numel() == key.numel():
            together = len(call.inputs) > 1 and gate is not None and same(call.inputs[1], up)
            output = call.output.cpu().reshape(key.shape)
            errors.append(relative_error(output if together else output * factor, key))
    return min(errors)


@cache
def _activations() -> tuple[Any, ...]:
    return tuple(ACT2FN[name] for name in ACT2FN if name not in _NOT_TRIED)


def reproduces_experts(blocks: Sequence[Block], parameters: Mapping[str, Tensor], call: Call) -> bool:
    """Whether a module's experts, read one by one by their layout, sum to the module's output."""
    output = call.output.reshape(-1, call.output.shape[-1])
    total = torch.zeros_like(output)
    for block in blocks:
        share = read_share(block, len(blocks), call.inputs)
        if share is None:
            return False
        if len(share.token):
            key = activate(call.module, *gate_and_up(block, parameters, share.x))
            written = nn.functional.linear(
                key, block.down.vectors(parameters).T, block.down.biases(parameters)
            )
            total.index_add_(0, share.target, written * share.weight.to(written.dtype))
    if agree(total, output):
        return True
    return len(call.inputs) == 3 and agree(total + _identity_output(len(blocks), call), output)


def _identity_output(experts: int, call: Call) -> Tensor:
    """(T, d) the input passed through by experts without weights, which are numbered last."""
    hidden, chosen, weights = call.inputs[:3]
    share = (weights * (chosen >= experts)).sum(-1, keepdim=True)
    return hidden * share.to(hidden.dtype)


def gate_and_up(
    block: Block, parameters: Mapping[str, Tensor], x: Tensor, neurons: Tensor | slice = slice(None)
) -> tuple[Tensor | None, Tensor]:
    """(…, n) the gate and up sites of some neurons of a block, for x (…, d)."""

    def project(view: WeightView) -> Tensor:
        bias = view.unit_biases(parameters)
        weight = view.vectors(parameters)[neurons]
        return nn.functional.linear(x, weight, None if bias is None else bias[neurons])

    return (None if block.gate is None else project(block.gate)), project(block.up)


def activate(module: Any, gate: Tensor | None, up: Tensor) -> Tensor:
    """The key site of experts from gate and up, using their module's own gating."""
    if not hasattr(module, "_apply_gate"):
        function = activation_of(module)
        key = function(up) if gate is None else function(gate) * up
    elif gate is None:
        key = module.act_fn(up)
    elif getattr(module, "is_concatenated", True):
        key = module._apply_gate(torch.cat([gate, up], -1))
    else:
        key = module._apply_gate(torch.stack([gate, up], -1).flatten(-2))
    return cast(Tensor, key)


def activation_of(module: nn.Module) -> Any:
    """The activation function of an expert module or of a submodule; None if there is none."""
    names = ("act_fn", "act", "activation_fn", "activation")
    owners = (module, *module.children())
    return next((f for m in owners for name in names if callable(f := getattr(m, name, None))), None)


def agree(ours: Tensor, theirs: Tensor) -> bool:
    """Equal up to rounding in the model's dtype."""
    return ours.numel() == theirs.numel() and relative_error(ours, theirs) <= TOLERANCE[theirs.dtype]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Largest |difference| relative to their largest |value|; on the CPU, since MPS has no float64."""
    ours, theirs = (t.detach().cpu().double().reshape(-1) for t in (ours, theirs))
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9))
