"""The largest output of every FFN block over all tokens it is given (METHODS §3).

    a_{l,e} = max |down output| of block (l, e), with the bias, before the routing weight

A block with projections of its own is read at its down projection. Routed experts are read as they are
computed, through transformers' experts interface; those of other layouts are computed a second time from
their weights. Nothing waits for the device before the whole step is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import activate, gate_and_up
from analysis.anatomy.routing import read_share
from analysis.intervening.hooks import site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.super_experts.experts_forward import SeePairs, can_watch, watch_experts

Array = np.ndarray[Any, Any]
NOWHERE = -1
"""Token, row and column of a block that received no token."""


@dataclass(frozen=True)
class BlockPeaks:
    """The largest output of each of n blocks, (n,) each; 0 and NOWHERE for a block that saw no token.

    largest: max |down output|, float32. token: where, counted through the flattened batch. row: its dimension
    of the residual. column: the neuron whose part key · W_down[row] is largest towards the output's sign.
    first_routed: max |down output| over one token of each sequence: the first for which it is the router's
    first choice, else its second, and so on. count: tokens; sink: of these, first tokens of their sequence.
    """

    largest: Array
    token: Array
    row: Array
    column: Array
    first_routed: Array
    sink: Array
    count: Array

    def __post_init__(self) -> None:
        if len({getattr(self, one.name).shape for one in fields(self)}) != 1 or self.largest.ndim != 1:
            raise ValueError("BlockPeaks are arrays (n,), one entry per block")


@dataclass
class WatchOutputs:
    """Records the outputs of blocks in one step; read `peaks` afterwards."""

    blocks: Sequence[Block]
    _seen: list[tuple[list[int], tuple[Tensor, ...]]] = field(default_factory=list)

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach it; yields handles, each to be removed."""
        model, modules = step.loaded.model, dict[str, list[int]]()
        for number, block in enumerate(self.blocks):
            modules.setdefault(block.module if block.fused else site_module(block, "key"), []).append(number)
        watched: dict[nn.Module, SeePairs] = {}
        for name, numbers in modules.items():
            module, members = model.get_submodule(name), [self.blocks[i] for i in numbers]
            if not members[0].fused:
                yield module.register_forward_hook(self._dense(step, numbers[0]))
            elif members[0].routed and can_watch(model, module):
                watched[module] = self._pairs(step, numbers)
            else:
                yield module.register_forward_hook(self._again(step, numbers), with_kwargs=True)
        yield from watch_experts(model, watched)

    def peaks(self) -> BlockPeaks:
        """The recorded maxima, one entry per block."""
        size = len(self.blocks)
        found = BlockPeaks(
            largest=np.zeros(size, np.float32),
            **{name: np.full(size, NOWHERE, np.int32) for name in ("token", "row", "column")},
            first_routed=np.zeros(size, np.float32),
            sink=np.zeros(size, np.int32),
            count=np.zeros(size, np.int32),
        )
        for numbers, seen in self._seen:
            arrays = [tensor.cpu().numpy() for tensor in seen]
            here = arrays[-1] > 0
            for one, array in zip(fields(found), arrays, strict=True):
                getattr(found, one.name)[np.array(numbers)[here]] = array[here]
        return found

    def _dense(self, step: ForwardStep, number: int) -> Callable[..., None]:
        every = torch.arange(step.positions.numel(), device=step.positions.device)
        none = torch.zeros_like(every)

        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            key, written = (t.reshape(-1, t.shape[-1]) for t in (args[0], output))
            self._see(step, [number], none, none, every, key, written)

        return hook

    def _pairs(self, step: ForwardStep, numbers: list[int]) -> SeePairs:
        def see(expert: Tensor, slot: Tensor, token: Tensor, key: Tensor, output: Tensor) -> None:
            self._see(step, numbers, expert, slot, token, key, output)

        return see

    def _again(self, step: ForwardStep, numbers: list[int]) -> Callable[..., None]:
        """Compute the experts of a module from its weights, beside its own forward."""
        parameters = step.loaded.parameters

        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            for number in numbers:
                block = self.blocks[number]
                share = read_share(block, len(numbers), given)
                assert share is not None  # proven in the same way when the model was opened
                key = activate(module, *gate_and_up(block, parameters, share.x))
                down, bias = block.down.vectors(parameters).T, block.down.biases(parameters)
                written = nn.functional.linear(key, down, bias)
                self._see(
                    step, [number], torch.zeros_like(share.token), share.slot, share.token, key, written
                )

        return hook

    def _see(
        self,
        step: ForwardStep,
        numbers: list[int],
        of: Tensor,
        slot: Tensor,
        token: Tensor,
        key: Tensor,
        output: Tensor,
    ) -> None:
        """Reduce S pairs, ordered by block and then by token. of (S,): which of `numbers` each belongs to."""
        if not len(token):
            return
        width, size = step.positions.shape[1], len(numbers)
        value = torch.maximum(output.amax(-1), -output.amin(-1)).float()
        value = value.masked_fill(~value.isfinite(), torch.inf)
        largest = value.new_zeros(size).scatter_reduce(0, of, value, "amax")
        pair = torch.arange(len(of), device=of.device)
        pair = pair.masked_fill(value < largest[of], len(of) - 1)
        at = pair.new_full((size,), len(of) - 1).scatter_reduce(0, of, pair, "amin")
        sequence = of * len(step.positions) + token // width
        place = slot * width + token % width  # the order of (slot, token), as the released code meets them
        least = torch.full_like(place[:1], torch.iinfo(place.dtype).max).repeat(size * len(step.positions))
        first = place == least.scatter_reduce(0, sequence, place, "amin")[sequence]
        first_routed = value.new_zeros(size).scatter_reduce(0, of, value.where(first, 0.0), "amax")
        sink = torch.bincount(of[token % width == 0], minlength=size)
        count = torch.bincount(of, minlength=size)
        row = output[at].abs().argmax(-1)
        column = self._columns(step, numbers, key[at], row, output[at, row])
        self._seen.append((numbers, (largest, token[at], row, column, first_routed, sink, count)))

    def _columns(
        self, step: ForwardStep, numbers: list[int], key: Tensor, row: Tensor, output: Tensor
    ) -> Tensor:
        """(n,) the neuron whose part of output (n,) at row (n,) is largest. key (n, m)."""
        parameters, views = step.loaded.parameters, [self.blocks[i].down for i in numbers]
        if views[0].expert is None:
            down = torch.stack([v.vectors(parameters)[:, r] for v, r in zip(views, row, strict=True)])
        else:
            every = torch.tensor([view.expert for view in views], device=row.device)
            weight = parameters[views[0].parameter]
            down = weight[every, row] if views[0].neuron_axis == 1 else weight[every, :, row]
            down = down[:, views[0].neurons]
        return (key * down * output.sign()[:, None]).argmax(-1)
