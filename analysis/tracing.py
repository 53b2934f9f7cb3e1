"""What every module saw and gave during one small probe run, and which of them were norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from analysis.anatomy import Norm
from analysis.contract import TOLERANCE, error

PROBE_TOKENS = 8
KINDS: tuple[Literal["rms", "layer"], ...] = ("rms", "layer")


@dataclass(frozen=True)
class Call:
    """One module's first input and output during the probe run, in the order they happened."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


@dataclass(frozen=True)
class Trace:
    """All calls of one probe run, and the logits it ended with."""

    calls: tuple[Call, ...]
    logits: Tensor

    def of(self, name: str) -> Call | None:
        """The first call of a module, or None where the probe never reached it."""
        return self._first.get(name)

    @cached_property
    def _first(self) -> dict[str, Call]:
        return {call.name: call for call in reversed(self.calls)}


def trace_probe(model: PreTrainedModel) -> Trace:
    """Run a few tokens through the model and note what every module saw and gave."""
    calls: list[Call] = []
    handles = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            given = tuple(t.detach() for t in (*args, *kwargs.values()) if isinstance(t, Tensor))
            result = output[0] if isinstance(output, tuple) else output
            if given and isinstance(result, Tensor):
                calls.append(Call(name, module, given, result.detach()))

        return hook

    vocab = model.config.get_text_config().vocab_size
    device = next(model.parameters()).device
    tokens = (torch.arange(PROBE_TOKENS, device=device) * 7 + 3) % vocab
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(note(name), with_kwargs=True))
        with torch.no_grad():
            logits = model(input_ids=tokens[None], use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    return Trace(tuple(calls), logits)


def input_norm(trace: Trace, name: str) -> Norm | None:
    """The norm whose output is what a module reads."""
    call = trace.of(name)
    return None if call is None else norm_where(trace, lambda c: same(c.output, call.inputs[0]))


def post_norm(trace: Trace, name: str) -> Norm | None:
    """The norm that reads the block's output, or that of the module which sums a layer's experts."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if parts[end - 1].isdigit():
            return None
        call = trace.of(".".join(parts[:end]))
        found = None if call is None else norm_where(trace, partial(_reads, call.output))
        if found is not None:
            return found
    return None


def _reads(output: Tensor, call: Call) -> bool:
    return same(call.inputs[0], output)


def norm_where(trace: Trace, wanted: Callable[[Call], bool]) -> Norm | None:
    """The first call of the probe run that fits and proves to be a norm."""
    return next((n for c in trace.calls if wanted(c) and (n := _as_norm(c)) is not None), None)


def _as_norm(call: Call) -> Norm | None:
    """What kind of norm a call was: rms or layer, times w or 1 + w, whichever comes nearest."""
    weight = getattr(call.module, "weight", None)
    x = call.inputs[0]
    if not isinstance(weight, Tensor) or weight.dim() != 1 or weight.shape[0] != x.shape[-1]:
        return None
    bias = getattr(call.module, "bias", None)
    eps = next((float(e) for a in ("variance_epsilon", "eps") if (e := getattr(call.module, a, None))), 0.0)
    scale, shift = weight.cpu().double(), 0.0 if bias is None else bias.cpu().double()
    wrong, kind, offset = min(
        (error(_normed(x, kind, eps) * (scale + offset) + shift, call.output), kind, offset)
        for kind in KINDS
        for offset in (0.0, 1.0)
    )
    if not wrong <= TOLERANCE[call.output.dtype]:
        return None
    return Norm(f"{call.name}.weight", kind, eps, offset, None if bias is None else f"{call.name}.bias")


def _normed(x: Tensor, kind: str, eps: float) -> Tensor:
    """x (…, d) over its root mean square, its mean taken off first where the kind is `layer`; float64."""
    x = x.cpu().double()
    x = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order, whatever their shapes."""
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1))
