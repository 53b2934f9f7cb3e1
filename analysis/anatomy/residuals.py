"""Where the residual that an FFN block's output is added to can be read while the model runs (METHODS §2).

Found from one probe run and proven by it: what the layer gives on, minus the residual, is the block's output
(times a factor, beside one other part of the layer). No names are known: a place that cannot be proven is
left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import TOLERANCE
from analysis.anatomy.norms import as_norm
from analysis.anatomy.tracing import PROBE_TOKENS, Call, Trace, layer_of, same

SMALLEST_FACTOR = 1e-3
"""Smallest |factor| at which a block's output counts as added to the residual."""


@dataclass(frozen=True)
class ResidualPlace:
    """Where a block's residual is read: the first input of `module`, laid out (B, T, d) or (T, B, d).

    own_output: a norm follows the block, so its own output, before that norm, stands for the residual, and
    `module` is the one that writes it. time_first: the layout is (T, B, d).
    """

    module: str
    own_output: bool = False
    time_first: bool = False


def writer_of(block: Block) -> str:
    """The module whose output a block writes to: its down projection, or the module of all its experts."""
    return block.module if block.fused else block.down.parameter.removesuffix(".weight")


def find_residual_places(trace: Trace, blocks: Iterable[Block]) -> dict[str, ResidualPlace]:
    """The place of every block for which one is proven, by `writer_of`."""
    found: dict[str, ResidualPlace] = {}
    for block in {writer_of(block): block for block in blocks}.values():
        place = _find_place(trace, block)
        if place is not None:
            found[writer_of(block)] = place
    return found


def _find_place(trace: Trace, block: Block) -> ResidualPlace | None:
    name = writer_of(block)
    layer = layer_of(name)
    written = trace.of(name)
    if layer is None or written is None:
        return None
    around = list(_calls_around(trace, name, layer))
    calls = trace.in_layer(layer)
    for call in calls:
        if any(same(call.inputs[0], one.output) for one in around) and as_norm(call) is not None:
            # several blocks summed before the norm: none of them alone is what is normed
            own = same(call.inputs[0], written.output)
            return ResidualPlace(name, True, block.time_first) if own else None
    width = written.output.shape[-1]
    others = [c for c in calls if c not in around and _is_child(c, layer) and _like(c.output, width)]
    sums = _sums(trace, layer, width)
    for candidate in _candidates(trace, block, layer, width):
        h = candidate.inputs[0]
        # if the layer's input is merely near the block, a sum with attention proves nothing about the block
        beside = [] if candidate.name == layer else others
        if any(_is_sum(target, h, around, beside) for target in sums):
            return ResidualPlace(candidate.name, time_first=h.shape[:-1] == (PROBE_TOKENS, 1))
    return None


def _calls_around(trace: Trace, name: str, layer: str) -> Iterator[Call]:
    """The calls of a module and of those around it inside its layer, innermost first."""
    while name != layer:
        call = trace.of(name)
        if call is not None:
            yield call
        name = name.rpartition(".")[0]


def _candidates(trace: Trace, block: Block, layer: str, width: int) -> Iterator[Call]:
    """Calls whose first input may be the residual: the norm before the block, the layer, the block itself."""
    reader = block.module if block.fused else block.up.parameter.removesuffix(".weight")
    readers = [call for n in (reader, block.module) if (call := trace.of(n)) is not None and n != layer]
    outer = [call for call in _calls_around(trace, reader, layer) if call not in readers]
    for call in (*readers, *outer):
        for norm in trace.in_layer(layer):
            if same(norm.output, call.inputs[0]) and as_norm(norm) is not None:
                yield norm
    whole = trace.of(layer)
    for call in (whole, *readers):
        if call is not None and _like(call.inputs[0], width):
            yield call


def _sums(trace: Trace, layer: str, width: int) -> list[Tensor]:
    """Tensors that may be residual plus output: what the layer returns, and what its norms read."""
    whole = trace.of(layer)
    sums = [] if whole is None else [whole.output]
    sums += [call.inputs[0] for call in trace.in_layer(layer) if as_norm(call) is not None]
    return [tensor for tensor in sums if _like(tensor, width)]


def _is_sum(target: Tensor, h: Tensor, around: Sequence[Call], others: Sequence[Call]) -> bool:
    """Whether target − h is a multiple of a module's output around the block, or that plus another's."""
    target, h = target.reshape(-1, target.shape[-1]), h.reshape(-1, h.shape[-1])
    if target.shape != h.shape:
        return False
    eps, tolerance = torch.finfo(target.dtype).eps, TOLERANCE[target.dtype]
    sizes = target.abs().double() + h.abs().double()
    added = target.double() - h.double()
    allowed = tolerance * added.abs().amax(-1, keepdim=True) + 2 * eps * sizes
    own = [call.output.reshape(h.shape) for call in around if call.output.numel() == h.numel()]
    beside = [call.output.reshape(h.shape) for call in others]
    if not float(added.abs().max()) > 0:
        return False
    return any(
        _spans([one, *more], added, allowed) for one in own for more in ([], *([other] for other in beside))
    )


def _spans(parts: Sequence[Tensor], added: Tensor, allowed: Tensor) -> bool:
    """Whether `added` is a weighted sum of the parts, the first one's weight not nearly 0."""
    columns = torch.stack([part.double().reshape(-1) for part in parts], 1).to(added.device)
    weights = torch.linalg.lstsq(columns, added.reshape(-1, 1)).solution
    left = (added.reshape(-1, 1) - columns @ weights).reshape(added.shape)
    return abs(float(weights[0])) > SMALLEST_FACTOR and bool((left.abs() <= allowed).all())


def _is_child(call: Call, layer: str) -> bool:
    return call.name.rpartition(".")[0] == layer


def _like(tensor: Tensor, width: int) -> bool:
    """Whether a tensor holds one vector of the stream's width for every token of the probe."""
    return tensor.is_floating_point() and tensor.shape[-1] == width and tensor.numel() == PROBE_TOKENS * width
