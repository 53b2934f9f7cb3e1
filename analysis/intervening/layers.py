"""Watches of whole layers: what each layer gives on, and layers that are not run because it is known.

Used where many rows of one batch share everything up to a layer: it is computed once, for one row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.tracing import layer_of, stack_and_number
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel


def list_layers(loaded: LoadedModel) -> list[str]:
    """Module names of the layers, in order, if one stack holds every FFN block; else none."""
    names = [layer_of(block.module) for block in loaded.anatomy.blocks]
    stacks = {None if name is None else stack_and_number(name)[0] for name in names}
    if len(stacks) != 1 or None in stacks:
        return []
    (stack,) = stacks
    return [f"{stack}.{name}" for name, _ in loaded.model.get_submodule(str(stack)).named_children()]


@dataclass(frozen=True)
class NoteLayers:
    """Read what each of some layers gives on: `outputs` by name, as the layer returned it."""

    layers: tuple[str, ...]
    outputs: dict[str, Any] = field(default_factory=dict)

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Attach a reading hook to every layer; yields handles, each to be removed."""
        for name in self.layers:
            yield step.loaded.model.get_submodule(name).register_forward_hook(self._note(name))

    def _note(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.outputs[name] = output

        return hook


@dataclass(frozen=True)
class SkipLayers:
    """Layers that are not run: the last one gives on the known states, the others what they are given.

    outputs: what each layer returned in a pass of one batch, by name, from the first layer on. rows (B,): the
    row of that batch each row of this one begins as.
    """

    outputs: Mapping[str, Any]
    rows: Tensor

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Put the known outputs in place of the layers' forward; yields handles, each to be removed."""
        names = list(self.outputs)
        for name in names:
            module = step.loaded.model.get_submodule(name)
            yield _Replaced(module, self._give(self.outputs[name], known=name == names[-1]))

    def _give(self, output: Any, known: bool) -> Callable[..., Any]:
        rest = tuple(output[1:]) if isinstance(output, tuple) else None
        states = output[0] if isinstance(output, tuple) else output

        def forward(*args: Any, **kwargs: Any) -> Any:
            if known:
                given = states[self.rows.to(states.device)]
            else:
                given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            return given if rest is None else (given, *rest)

        return forward


class _Replaced:
    """A module whose forward is another function until it is removed."""

    def __init__(self, module: nn.Module, forward: Callable[..., Any]) -> None:
        self._module, self._before = module, module.__dict__.get("forward")
        module.forward = forward  # type: ignore[method-assign]

    def remove(self) -> None:
        """Put the module's own forward back."""
        if self._before is None:
            del self._module.__dict__["forward"]
        else:
            self._module.forward = self._before  # type: ignore[method-assign]


def is_batch_first(output: Any, rows: int, length: int) -> bool:
    """Whether a layer's output begins with states (rows, length, d)."""
    states = output[0] if isinstance(output, tuple) and output else output
    return isinstance(states, torch.Tensor) and states.dim() == 3 and states.shape[:2] == (rows, length)
