"""Peak activation memory of a forward pass, counted on a model that has shapes but no weights.

Every operation runs on torch's `meta` device, which computes shapes alone; each
result is counted until it is freed. The count follows the model's own code, so it works for any family.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import DynamicCache, PreTrainedModel


def activation_bytes(empty: PreTrainedModel, rows: int, length: int) -> int:
    """The most bytes alive at once, KV cache included, while `rows` sequences of `length` tokens are read.

    empty: the model on the meta device, in the dtype it is to run in.
    """
    try:
        return _count_bytes(empty, rows, length)
    except Exception:  # models that branch on their own values cannot run without any
        text = empty.config.get_text_config()
        return _estimate_activations(text, rows * length) * int(empty.dtype.itemsize)


def _count_bytes(empty: PreTrainedModel, rows: int, length: int) -> int:
    alive = Alive()
    with torch.inference_mode(), alive:
        positions = torch.arange(length, device="meta").expand(rows, -1)
        empty(
            input_ids=torch.zeros_like(positions),
            position_ids=positions,
            past_key_values=DynamicCache(config=empty.config),
            use_cache=True,
            logits_to_keep=1,
        )
    return alive.most


class Alive(TorchDispatchMode):
    """Count the bytes of storages that operations allocated and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        if function is torch.ops.aten._grouped_mm.default:  # the only dtype with shapes for it
            made = args[0].new_empty((args[0].shape[0], args[1].shape[-1]))
        else:
            made = function(*args, **(kwargs or {}))
        for storage in _storages(made):
            if storage._cdata not in self._known | given:
                self._add(storage)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        name, size = storage._cdata, storage.nbytes()
        self._known.add(name)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._drop, name, size)

    def _drop(self, name: int, size: int) -> None:
        self._known.discard(name)
        self._now -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_iter(values) if isinstance(value, Tensor)]


def _estimate_activations(text: Any, tokens: int) -> int:
    """Numbers in the KV cache, and in the widest layer's intermediates, by names used in configurations."""
    heads = first_number(text, "num_attention_heads", "n_head") or 1
    width = first_number(text, "hidden_size", "n_embd", "d_model")
    head = first_number(text, "head_dim") or width // heads
    groups = first_number(text, "num_key_value_heads") or heads
    cache = 2 * first_number(text, "num_hidden_layers", "n_layer") * groups * head
    dense = first_number(text, "intermediate_size", "n_inner", "ffn_dim", "d_ff") or 4 * width
    chosen = first_number(text, "num_experts_per_tok", "moe_topk")
    routed = chosen * (first_number(text, "moe_intermediate_size", "expert_ffn_hidden_size") or dense)
    return (cache + 3 * max(dense, routed) + 6 * width) * tokens


def first_number(config: Any, *names: str) -> int:
    """The first of some settings that is a whole number; 0 if none is."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if isinstance(value, int)), 0)
