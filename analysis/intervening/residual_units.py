"""Values in × residual: c times what the stream carries at a position, in units of one neuron (METHODS §2).

    v = c · ‖h‖ / ‖w_down‖        h: the residual that the block's output is added to, same row and position

h is read in the pass itself, so what earlier clamps did is in it. Behind a norm that follows the block, the
block's own output before that norm takes the place of h ("× block").
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.residuals import ResidualPlace, find_residual_places, writer_of
from analysis.anatomy.tracing import trace_probe
from analysis.errors import ClampError, UnknownStructure
from analysis.intervening.clamps import Clamp
from analysis.intervening.steps import ForwardStep
from analysis.opening.models import LoadedModel

OF_RESIDUAL, OF_BLOCK = "× residual", "× block"
"""Names of the unit, depending on what a neuron's part is measured by."""

_known: WeakKeyDictionary[LoadedModel, dict[str, ResidualPlace]] = WeakKeyDictionary()
_table = threading.Lock()


def find_residual(loaded: LoadedModel, clamp: Clamp, block: Block) -> ResidualPlace:
    """Where the residual of a clamp in × residual is read; one short pass, once per model.

    Raises ClampError where the model's structure does not show it, or the neuron writes nothing.
    """
    place = find_residual_place(loaded, block)
    if place is None:
        raise ClampError(
            f"{clamp}: in {loaded.anatomy.architecture} the residual that the output of {block.address} is "
            "added to cannot be told from the structure; give the value as 8x or as a plain number"
        )
    if not float(down_norm(loaded, clamp, block)) > 0:
        raise ClampError(
            f"{clamp}: its down vector is 0, so the neuron writes nothing at any value; choose another neuron"
        )
    return place


def find_residual_place(loaded: LoadedModel, block: Block) -> ResidualPlace | None:
    """Where the residual of a block is read; None where the model's structure does not show it."""
    return _list_places(loaded).get(writer_of(block))


def find_writers(loaded: LoadedModel, block: Block) -> Tensor:
    """(m,) bool: which neurons of a block can be held in × residual, since they write something."""
    vectors = block.down.vectors(loaded.parameters)
    if find_residual_place(loaded, block) is None:
        return torch.zeros(len(vectors), dtype=torch.bool)
    writes: Tensor = torch.linalg.vector_norm(vectors.float(), dim=-1) > 0
    return writes.cpu()


def name_unit(loaded: LoadedModel, clamp: Clamp) -> str:
    """`× residual`, or `× block` where a norm follows the clamp's block. Raises as find_residual."""
    place = find_residual(loaded, clamp, loaded.anatomy.block(clamp.address))
    return OF_BLOCK if place.own_output else OF_RESIDUAL


def down_norm(loaded: LoadedModel, clamp: Clamp, block: Block) -> Tensor:
    """() float32: the norm of the neuron's down vector, with the present weights."""
    vector = block.down.vectors(loaded.parameters)[clamp.address.neuron]
    norm: Tensor = torch.linalg.vector_norm(vector.float())
    return norm


def _list_places(loaded: LoadedModel) -> dict[str, ResidualPlace]:
    with _table:
        known = _known.get(loaded)
    if known is None:
        with loaded.lock:
            try:
                known = find_residual_places(trace_probe(loaded.model), loaded.anatomy.blocks)
            except UnknownStructure:  # it no longer runs on a plain row of tokens
                known = {}
        with _table:
            _known[loaded] = known
    return known


class ResidualSizes:
    """The size of the residual of one block at every position of one step, read as the pass reaches it."""

    def __init__(self, step: ForwardStep, place: ResidualPlace) -> None:
        self.step, self.place = step, place
        self._sizes: Tensor | None = None

    def attach(self) -> Iterator[Any]:
        """Attach the reading hook, if the residual is not the block's own output; yields handles."""
        if not self.place.own_output:
            module = self.step.loaded.model.get_submodule(self.place.module)
            yield module.register_forward_pre_hook(self._read, with_kwargs=True)

    def _read(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        states = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        self._sizes = self._measure(states)

    def _measure(self, states: Tensor) -> Tensor:
        """(B, T) ‖states‖ by row and position, position 0 as `replace_first` has it."""
        batch, length = self.step.positions.shape
        sizes = states.float().norm(dim=-1)
        by_row = sizes.reshape(length, batch).T if self.place.time_first else sizes.reshape(batch, length)
        return replace_first(by_row, self.step.positions.to(by_row.device), self.step.lengths)

    def of(self, output: Callable[[], Tensor]) -> Tensor:
        """(B, T) the sizes; `output` computes the block's own output, where that stands for the residual."""
        if self.place.own_output:
            return self._measure(output())
        assert self._sizes is not None  # a module before the block always runs first
        return self._sizes


def replace_first(sizes: Tensor, positions: Tensor, lengths: Tensor | None = None) -> Tensor:
    """(B, T) sizes, at position 0 the median of the row's other positions in this pass, if it has any.

    The first position carries massive activations. positions (B, T): −1 at padding, which is left out. Of
    two medians the lower one is taken, as torch.median does.
    lengths (B,): of each row's prompt, 0 if not known. What is fed behind it does not count, so the value is
    the same whether or not an answer is fed in the same pass.
    """
    left_out = positions <= 0
    if lengths is not None:
        known = lengths.to(positions.device)[:, None]
        left_out = left_out | ((positions >= known) & (known > 0))
    others = sizes.masked_fill(left_out, torch.nan).nanmedian(1, keepdim=True).values
    return torch.where((positions == 0) & ~others.isnan(), others, sizes)
