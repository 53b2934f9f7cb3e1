"""Trace of one small probe run: the inputs and outputs of every module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from analysis.errors import HeadlampError, UnknownStructure

PROBE_TOKENS = 8
_LAYER = re.compile(r"^(?P<layer>(?P<stack>.*?)\.?(?P<number>\d+))(?=\.|$)")


@dataclass(frozen=True)
class Call:
    """One call of a module: its input tensors and its output."""

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor

    @property
    def layer(self) -> str | None:
        """The name of the module's layer, such as `model.layers.3`."""
        return layer_of(self.name)


@dataclass(frozen=True)
class Trace:
    """All calls of one probe run in the order they ended, and the logits."""

    calls: tuple[Call, ...]
    logits: Tensor

    def of(self, name: str) -> Call | None:
        """The first call of a module, or None if the probe never reached it."""
        return self._first.get(name)

    def in_layer(self, layer: str) -> list[Call]:
        """The first call of every module of a layer, in order."""
        return self._layers.get(layer, [])

    @property
    def layers(self) -> list[str]:
        """The names of the layers the probe reached."""
        return list(self._layers)

    @cached_property
    def _first(self) -> dict[str, Call]:
        first: dict[str, Call] = {}
        for call in self.calls:
            first.setdefault(call.name, call)
        return first

    @cached_property
    def _layers(self) -> dict[str, list[Call]]:
        layers: dict[str, list[Call]] = {}
        for call in self._first.values():
            if call.layer is not None:
                layers.setdefault(call.layer, []).append(call)
        return layers


def layer_of(name: str) -> str | None:
    """The name of a module's layer: `model.layers.3` for `model.layers.3.mlp`; None outside."""
    found = _LAYER.match(name)
    return None if found is None else found["layer"]


def stack_and_number(layer: str) -> tuple[str, int]:
    """`model.layers.3` → (`model.layers`, 3)."""
    found = _LAYER.match(layer)
    assert found is not None
    return found["stack"], int(found["number"])


def trace_probe(model: PreTrainedModel) -> Trace:
    """Run a few tokens through the model and record every module's inputs and outputs.

    Raises UnknownStructure if the model does not run on one row of tokens.
    """
    calls: list[Call] = []
    handles = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            given = tuple(t.detach().clone() for t in (*args, *kwargs.values()) if isinstance(t, Tensor))
            result = output[0] if isinstance(output, tuple) else output
            if given and isinstance(result, Tensor):
                calls.append(Call(name, module, given, result.detach().clone()))

        return hook

    vocab = model.config.get_text_config().vocab_size
    device = next(model.parameters()).device
    tokens = (torch.arange(PROBE_TOKENS, device=device) * 7 + 3) % vocab
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(note(name), with_kwargs=True))
        with torch.no_grad():
            logits = model(input_ids=tokens[None], use_cache=False).logits
    except HeadlampError:  # weights that could not be read
        raise
    except Exception as error:  # the edge to transformers: any way a model refuses plain text
        raise UnknownStructure(
            f"{type(model).__name__} does not run on one row of tokens: {' '.join(str(error).split())[:200]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return Trace(tuple(calls), logits)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order, regardless of shape and device."""
    return one.numel() == other.numel() and torch.equal(one.reshape(-1), other.reshape(-1).to(one.device))
