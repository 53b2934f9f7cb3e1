"""Weight edits on a copy of a model and what its modules give: the other way to every number of a clamp."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from analysis.anatomy.anatomy import Block, WeightView
from analysis.anatomy.structure import find_anatomy
from analysis.opening.models import LoadedModel, ModelRef

ROWS, LENGTH = 2, 6
IDS = torch.tensor([[5, 9, 3, 40, 77, 8]] * ROWS)
POSITIONS = torch.arange(LENGTH).expand(ROWS, -1)


@dataclass(frozen=True)
class Seen:
    """The first call of a module: the tensors it was given and the one it gave."""

    given: tuple[Tensor, ...]
    gave: Tensor


def opened(model: PreTrainedModel) -> LoadedModel:
    """The model as the app opens it, but for its tokenizer, which no check needs."""
    tokenizer: Any = None
    return LoadedModel(ModelRef("tiny"), Path("."), model, tokenizer, find_anatomy(model), "0" * 64)


@torch.no_grad()
def logits_of(model: PreTrainedModel) -> Tensor:
    """(2, 6, V) for two equal rows."""
    return model(input_ids=IDS, use_cache=False).logits  # type: ignore[no-any-return]


@contextmanager
def watched(model: nn.Module, name: str) -> Iterator[list[Seen]]:
    """What a module is given and gives while the body runs; attached last, it sees what clamps changed."""
    seen: list[Seen] = []

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        given = tuple(t.clone() for t in (*args, *kwargs.values()) if isinstance(t, Tensor))
        seen.append(Seen(given, (output[0] if isinstance(output, tuple) else output).clone()))

    handle = model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def seen_at(model: PreTrainedModel, name: str) -> Seen:
    """The first call of a module in a plain run."""
    with watched(model, name) as seen:
        logits_of(model)
    return seen[0]


def edited(model: PreTrainedModel, edit: Callable[[dict[str, Tensor]], None]) -> PreTrainedModel:
    """A copy of the model whose weights were edited in place, by name; none of them tied to another."""
    other = copy.deepcopy(model)
    first = {name for name, _ in other.named_parameters()}
    for name, parameter in list(other.named_parameters(remove_duplicate=False)):
        if name not in first:
            owner, _, leaf = name.rpartition(".")
            own = nn.Parameter(parameter.clone(), requires_grad=False)
            setattr(other.get_submodule(owner), leaf, own)
    edit(dict(other.named_parameters(remove_duplicate=False)))
    return other


def writer(block: Block) -> str:
    """The module whose output is what a block writes: its down projection, or all experts together."""
    return block.module if block.fused else block.down.parameter.removesuffix(".weight")


def reader(block: Block) -> str:
    """The module that reads what a block reads."""
    return block.module if block.fused else block.up.parameter.removesuffix(".weight")


def bias_of(parameters: dict[str, Tensor], view: WeightView, neuron: int) -> Tensor | None:
    """() the neuron's own bias, a view that can be written to; None where it has none."""
    if view.bias is None:
        return None
    bias = parameters[view.bias]
    bias = bias if view.expert is None else bias[view.expert]
    return bias[view.start + view.step * neuron]


def held_for(x: Tensor, view: WeightView, neuron: int, mode: str, value: float) -> Callable[[Any], None]:
    """The edit of one neuron's up or gate vector that holds its value so for one input x (d,)."""

    def edit(parameters: dict[str, Tensor]) -> None:
        row, bias = view.vectors(parameters)[neuron], bias_of(parameters, view, neuron)
        factor = {"add": 1.0, "scale": value}.get(mode, 0.0)
        constant = value if mode in ("set", "add") else 0.0
        row.mul_(factor).add_(constant * x / (x @ x))
        if bias is not None:
            bias.mul_(factor)

    return edit


def scaled_column(block: Block, neuron: int, factor: float) -> Callable[[Any], None]:
    """The edit that multiplies what one neuron writes."""

    def edit(parameters: dict[str, Tensor]) -> None:
        block.down.vectors(parameters)[neuron].mul_(factor)

    return edit
