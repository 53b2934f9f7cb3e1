"""Experts stored as slices of their module's parameters: all possible layouts, the likeliest first.

3-D parameters have the expert first; 2-D ones have the experts' neurons one after the other. Which parameter
is gate, up or down, which half of a fused one is the gate and whether slices are transposed is read from
the flags of transformers' experts interface, else tried; `contract.py` decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, Literal

from torch import Tensor, nn

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block, WeightView
from analysis.anatomy.contract import activation_of, reproduces_experts
from analysis.anatomy.norms import input_norm, post_norm
from analysis.anatomy.tracing import Trace

_AXES: dict[bool, tuple[Literal[0, 1], Literal[0, 1]]] = {False: (0, 1), True: (1, 0)}
"""Neuron axis of (gate and up, down), depending on whether slices are stored transposed."""


@dataclass(frozen=True)
class ExpertLayout:
    """How a module stores its experts: the three views of expert 0, and the step to the next expert.

    flat: experts lie one after the other along the neuron axis.
    """

    experts: int
    gate: WeightView | None
    up: WeightView
    down: WeightView
    flat: bool = False

    def views(self, expert: int) -> tuple[WeightView | None, WeightView, WeightView]:
        """(gate, up, down) of one expert."""
        gate = None if self.gate is None else self._of(self.gate, expert)
        return gate, self._of(self.up, expert), self._of(self.down, expert)

    def _of(self, view: WeightView, expert: int) -> WeightView:
        if self.flat:
            return replace(view, start=view.start + expert * view.count)
        return replace(view, expert=expert)


def keeps_experts(module: nn.Module, width: int) -> bool:
    """Whether a module has 3-D parameters that map from or to the residual width."""
    own = [p for p in module.parameters(recurse=False) if p.dim() == 3]
    return len(own) > 0 and all(width in p.shape[1:] and min(p.shape) > 1 for p in own)


def expert_blocks(
    name: str, module: nn.Module, width: int, number: int, trace: Trace, parameters: Mapping[str, Tensor]
) -> list[Block]:
    """One block per expert of a module; empty if no layout reproduces the module's output."""
    call = trace.of(name)
    if call is None:
        return []
    around = trace.of(name.rpartition(".")[0])
    before = input_norm(trace, call.inputs[0]) or (around and input_norm(trace, around.inputs[0]))
    norms = before or None, post_norm(trace, name)
    for shared in (False, True):
        for layout in list_layouts(name, module, width):
            blocks = []
            for expert in range(layout.experts):
                gate, up, down = layout.views(expert)
                address = BlockAddress(number, shared, expert)
                blocks.append(Block(address, up.count, name, up, gate, down, *norms, fused=True))
            if reproduces_experts(blocks, parameters, call):
                return blocks
    return []


def list_layouts(name: str, module: Any, width: int) -> Iterator[ExpertLayout]:
    """Every layout that is possible given the shapes of a module's weights."""
    weights = {n: p for n, p in module.named_parameters() if p.dim() > 1 and not n.endswith("_bias")}
    if len(weights) not in (2, 3) or (activation_of(module) is None and not hasattr(module, "_apply_gate")):
        return
    for order in permutations(weights):
        sizes = [tuple(weights[n].shape) for n in order]
        if all(len(size) == 3 for size in sizes):
            yield from _list_stacked(name, module, width, order, sizes)
        elif len(order) == 3 and len(set(sizes)) == 1 and getattr(module, "num_experts", None):
            yield from _flat(name, module, width, order, sizes[0])


def _list_stacked(
    name: str, module: Any, width: int, order: tuple[str, ...], sizes: list[tuple[int, ...]]
) -> Iterator[ExpertLayout]:
    *inner, down = order
    for transposed in (False, True) if not hasattr(module, "has_gate") else (bool(module.is_transposed),):
        m = sizes[-1][1 if transposed else 2]
        experts, axis = sizes[-1][0], _AXES[transposed]
        if sizes[-1][2 if transposed else 1] != width:
            continue
        if any(size[2 - axis[0]] != width or size[0] < experts for size in sizes[:-1]):
            continue
        below = WeightView(f"{name}.{down}", axis[1], m, expert=0, bias=_bias(name, module, down))
        above = [WeightView(f"{name}.{n}", axis[0], m, expert=0, bias=_bias(name, module, n)) for n in inner]
        wide = [size[1 + axis[0]] for size in sizes[:-1]]
        if wide == [m]:
            yield ExpertLayout(experts, None, above[0], below)
        elif wide == [m, m]:
            yield ExpertLayout(experts, above[0], above[1], below)
        elif wide == [2 * m]:
            for gate, up in _halves(above[0], m, getattr(module, "is_concatenated", None)):
                yield ExpertLayout(experts, gate, up, below)


def _halves(both: WeightView, m: int, concatenated: bool | None) -> Iterator[tuple[WeightView, WeightView]]:
    if concatenated is not False:
        yield both, replace(both, start=m)
    if concatenated is not True:
        yield replace(both, step=2), replace(both, start=1, step=2)
    if concatenated is None:
        yield replace(both, start=m), both


def _flat(
    name: str, module: Any, width: int, order: tuple[str, ...], size: tuple[int, ...]
) -> Iterator[ExpertLayout]:
    experts = int(module.num_experts)
    if size[1] != width or size[0] % experts:
        return
    gate, up, down = (WeightView(f"{name}.{n}", 0, size[0] // experts) for n in order)
    yield ExpertLayout(experts, gate, up, down, flat=True)


def _bias(name: str, module: Any, weight: str) -> str | None:
    bias = getattr(module, f"{weight}_bias", None)
    return f"{name}.{weight}_bias" if isinstance(bias, nn.Parameter) else None
