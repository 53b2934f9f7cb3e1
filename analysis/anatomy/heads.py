"""The LM head and the final norm, found from one probe run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from analysis.anatomy.anatomy import Head, Norm
from analysis.anatomy.contract import TOLERANCE, relative_error, reproduces_head
from analysis.anatomy.norms import as_norm, norm_where
from analysis.anatomy.tracing import Call, Trace, same
from analysis.errors import ContractBroken, UnknownStructure

_SCALES = re.compile(r"logit|lm_head|output")
"""Configuration entries that may hold a factor or divisor of the logits."""
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "logit_softcapping", "output_logit_soft_cap")


def find_head(model: PreTrainedModel, trace: Trace, parameters: Mapping[str, Tensor]) -> tuple[Head, Call]:
    """Find the head and its call. Raises UnknownStructure, or ContractBroken if it does not reproduce the
    logits.
    """
    kind = type(model).__name__
    module: Any = model.get_output_embeddings()
    calls = [c for c in trace.calls if c.module is module or (module is None and _makes_logits(c, trace))]
    if not calls or f"{calls[-1].name}.weight" not in parameters:
        raise UnknownStructure(f"{kind}: found no LM head, a matrix that maps hidden states to logits")
    call = calls[-1]
    name = call.name
    weight = parameters[f"{name}.weight"]
    embeddings = model.get_input_embeddings()
    head = Head(
        parameter=f"{name}.weight",
        vocab=weight.shape[0],
        bias=f"{name}.bias" if f"{name}.bias" in parameters else None,
        tied=getattr(embeddings, "weight", None) is weight,
    )
    logits = trace.logits
    if call.output.shape[-1] > logits.shape[-1]:
        call = replace(call, output=call.output[..., : logits.shape[-1]])
    if call.output.shape != logits.shape:
        raise UnknownStructure(
            f"{kind}: its head outputs {tuple(call.output.shape)} but its logits are {tuple(logits.shape)}"
        )
    config = model.config.get_text_config()
    head = _scale_head(head, call.output, logits, config)
    rounded = logits.to(call.output.dtype)  # some models convert low-precision logits to float32
    if not reproduces_head(head, parameters, call.inputs[0], rounded):
        raise ContractBroken(f"{kind}: its logits are not cap(scale · (W x + b)) of {name}")
    return head, call


def _makes_logits(call: Call, trace: Trace) -> bool:
    return isinstance(call.module, nn.Linear) and same(call.output, trace.logits)


def _cap(config: Any) -> float | None:
    caps = (getattr(config, name, None) for name in _CAPS)
    return next((float(cap) for cap in caps if cap), None)


def _match_config_scale(config: Any, scale: float, tolerance: float) -> float:
    """The configured number that matches a measured scale or its inverse; else the measured scale.

    A measured scale has rounding error that depends on the weights.
    """
    entries = (value for name, value in vars(config).items() if _SCALES.search(name))
    numbers = [float(v) for v in entries if isinstance(v, int | float) and not isinstance(v, bool) and v]
    candidates = [*numbers, *(1 / number for number in numbers)]
    nearest = min(candidates, key=lambda number: abs(number / scale - 1), default=scale)
    return nearest if abs(nearest / scale - 1) < tolerance else scale


def _scale_head(head: Head, linear: Tensor, logits: Tensor, config: Any) -> Head:
    """The head with its scale, and its cap where the logits are capped."""
    cap = _cap(config)
    if same(linear.float(), logits.float()):
        return head
    ours, theirs = linear.cpu().double(), logits.cpu().double()
    if cap is not None:  # near the cap, low precision does not allow computing a scale
        free = theirs.abs() < 0.9 * cap
        ours, theirs = ours[free], cap * torch.atanh(theirs[free] / cap)
    scale, tolerance = float((ours * theirs).sum() / (ours * ours).sum()), TOLERANCE[linear.dtype] / 10
    unscaled = abs(scale - 1) < tolerance
    return replace(
        head, scale=1.0 if unscaled else _match_config_scale(config, scale, tolerance), soft_cap=cap
    )


def find_final_norm(model: PreTrainedModel, trace: Trace, head: Call) -> Norm:
    """Find the norm whose output, up to a factor, the head reads. Raises UnknownStructure."""
    x = head.inputs[0]
    found = norm_where(trace.calls, lambda call: same(call.output, x))
    if found is not None:
        return found
    for call in reversed(trace.calls):
        factor = _times(call.output, x)
        if factor is not None and (norm := as_norm(call)) is not None:
            return replace(norm, factor=factor)
    raise UnknownStructure(f"{type(model).__name__}: the LM head does not read the output of a norm")


def _times(one: Tensor, other: Tensor) -> float | None:
    """The factor by which `other` is a multiple of `one`, if it is."""
    if one.numel() != other.numel() or not one.is_floating_point():
        return None
    a, b = one.cpu().double().reshape(-1), other.cpu().double().reshape(-1)
    factor = float((a @ b) / (a @ a).clamp(min=1e-30))
    return factor if factor and relative_error(factor * a, b) <= TOLERANCE[other.dtype] / 10 else None
