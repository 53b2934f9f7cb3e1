"""Inputs and outputs of a layer's attention, observed through functions registered with transformers.

The model's own attention runs; beside it, attention is computed here for a few queries at a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from analysis.anatomy.contract import agree

KNOWN = ("sdpa", "eager")
"""Implementations that can be wrapped; others hide their masks."""
_PROVEN = 4
"""Queries whose attention is fully recomputed, to check that nothing else contributes."""

SeeCall = Callable[["AttentionCall", Tensor], None]
"""Called with the inputs of a layer's attention and with its output, (B, T, H, dv)."""


@dataclass(frozen=True)
class AttentionCall:
    """Inputs of a layer's attention. query (B, H, T, d), key and value (B, H', T, d), H' dividing H."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    learned: Tensor | None

    def probabilities(self, part: slice) -> tuple[Tensor, Tensor | None]:
        """(B, H, t, T) attention of some queries, and (B, H, t) attention on the learned sink; float32."""
        query = self.query[:, :, part]
        batch, heads, count, _ = query.shape
        shape = (batch, self.key.shape[1], -1, count)
        grouped = query.reshape(*shape, query.shape[-1]).float()
        scores = (grouped @ self.key.float()[:, :, None].transpose(-1, -2)) * self.scaling
        scores = scores.reshape(batch, heads, count, -1)
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if self.mask is not None and self.mask.is_floating_point():
            scores = scores + self.mask[..., part, : scores.shape[-1]].float()
        else:
            scores = scores.masked_fill(~self.sees(part), -torch.inf)
        if self.learned is None:
            return scores.softmax(-1), None
        sink = self.learned.float().reshape(1, -1, 1, 1).expand(batch, -1, count, 1)
        p = torch.cat([scores, sink], -1).softmax(-1)
        return p[..., :-1], p[..., -1]

    def sees(self, part: slice) -> Tensor:
        """(B or 1, 1, t, T) whether a query may see a token."""
        if self.mask is None:
            count, length = self.query.shape[2], self.key.shape[2]
            every = torch.arange(length, device=self.query.device)
            return (every <= every[:count][part, None])[None, None]
        seen = self.mask if self.mask.dtype == torch.bool else self.mask >= 0
        return seen[..., part, : self.key.shape[2]]

    def gives(self, output: Tensor) -> bool:
        """Whether recomputing the last queries' attention reproduces the layer's output."""
        part = slice(max(self.query.shape[2] - _PROVEN, 0), None)
        p, _ = self.probabilities(part)
        batch, heads, count, length = p.shape
        values = self.value.float()[:, :, None]
        ours = p.reshape(batch, self.value.shape[1], -1, count, length) @ values
        ours = ours.reshape(batch, heads, count, -1).transpose(1, 2)
        theirs = output[:, part]
        return ours.shape == theirs.shape and agree(ours, theirs)


class AttentionWatch:
    """Observes the attention of one model until `remove` is called. see: callback per attention module."""

    def __init__(self, model: PreTrainedModel, see: dict[nn.Module, SeeCall]) -> None:
        self.see, self._model = see, model
        self._before = implementations(model)
        try:
            _watching.update(dict.fromkeys(see, self))
            names = {key: f"{_NAME}_{implementation}" for key, implementation in self._before.items()}
            model.set_attn_implementation(names)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Restore the previous implementation."""
        self._model.set_attn_implementation(self._before)
        for module in self.see:
            _watching.pop(module, None)


_NAME = "headlamp_watched"
_watching: WeakKeyDictionary[nn.Module, AttentionWatch] = WeakKeyDictionary()


def implementations(model: PreTrainedModel) -> dict[str, str]:
    """The attention implementation of the model ("") and of each of its sub-configurations."""
    config = model.config
    named = {name: getattr(config, name, None) for name in config.sub_configs}
    below = {name: sub._attn_implementation for name, sub in named.items() if sub is not None}
    return {"": config._attn_implementation, **below}


def _wrap_attention(implementation: str) -> Callable[..., Any]:
    """An attention function that runs another one and reports its inputs."""

    def attention(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
    ) -> Any:
        own = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
        runs = own if implementation == "eager" else ALL_ATTENTION_FUNCTIONS[implementation]
        output, weights = runs(module, query, key, value, attention_mask, **rest)  # type: ignore[misc]
        attached = _watching.get(module)
        if attached is not None and rest.get("position_bias") is None:
            scaling = query.shape[-1] ** -0.5 if rest.get("scaling") is None else rest["scaling"]
            masks = (attention_mask, scaling, rest.get("softcap"), rest.get("s_aux"))
            attached.see[module](AttentionCall(query, key, value, *masks), output)
        return output, weights

    return attention


for _implementation in KNOWN:
    ALL_ATTENTION_FUNCTIONS.register(f"{_NAME}_{_implementation}", _wrap_attention(_implementation))
    _mask = ALL_MASK_ATTENTION_FUNCTIONS[_implementation]
    ALL_MASK_ATTENTION_FUNCTIONS.register(f"{_NAME}_{_implementation}", _mask)
