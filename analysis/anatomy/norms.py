"""Norms of a probe run: which calls were norms, proven numerically, and which surround a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from torch import Tensor

from analysis.anatomy.anatomy import Norm
from analysis.anatomy.contract import TOLERANCE, relative_error
from analysis.anatomy.tracing import Call, Trace, same

KINDS: tuple[Literal["rms", "layer"], ...] = ("rms", "layer")


def input_norm(trace: Trace, x: Tensor) -> Norm | None:
    """The norm whose output is x."""
    return norm_where(trace.calls, lambda call: same(call.output, x))


def post_norm(trace: Trace, name: str) -> Norm | None:
    """The norm that reads the output of a module, or of a module around it in the same layer."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if parts[end - 1].isdigit():
            return None
        call = trace.of(".".join(parts[:end]))
        found = None if call is None else _reader(trace, call.output)
        if found is not None:
            return found
    return None


def _reader(trace: Trace, output: Tensor) -> Norm | None:
    return norm_where(trace.calls, lambda call: same(call.inputs[0], output))


def norm_where(calls: Iterable[Call], wanted: Callable[[Call], bool]) -> Norm | None:
    """The first call that satisfies the condition and is proven to be a norm."""
    return next((n for c in calls if wanted(c) and (n := as_norm(c)) is not None), None)


def as_norm(call: Call) -> Norm | None:
    """Classify a norm call: rms or layer, times w, 1 + w or nothing, whichever error is smallest."""
    weight, bias = (getattr(call.module, name, None) for name in ("weight", "bias"))
    x = call.inputs[0]
    if x.shape != call.output.shape or not x.is_floating_point():
        return None
    if weight is None and next(call.module.parameters(), None) is not None:
        return None
    if weight is not None and (not isinstance(weight, Tensor) or weight.shape != x.shape[-1:]):
        return None
    names = ("variance_epsilon", "eps", "epsilon", "norm_eps")
    eps = next((float(e) for a in names if isinstance(e := getattr(call.module, a, None), float)), 0.0)
    scale = 1.0 if weight is None else weight.cpu().double()
    shift = bias.cpu().double() if isinstance(bias, Tensor) else 0.0
    wrong, kind, offset = min(
        (relative_error(_normalise(x, kind, eps) * (scale + offset) + shift, call.output), kind, offset)
        for kind in KINDS
        for offset in ((0.0,) if weight is None else (0.0, 1.0))
    )
    if not wrong <= TOLERANCE[call.output.dtype]:
        return None
    return Norm(
        None if weight is None else f"{call.name}.weight",
        kind,
        eps,
        offset,
        f"{call.name}.bias" if isinstance(bias, Tensor) else None,
    )


def _normalise(x: Tensor, kind: str, eps: float) -> Tensor:
    """x (…, d) divided by its root mean square, centred first if the kind is `layer`; float64."""
    x = x.cpu().double()
    x = x - x.mean(-1, keepdim=True) if kind == "layer" else x
    return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
