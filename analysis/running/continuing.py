"""Check whether a model can continue a text with a KV cache and explicit positions, one token at a time.

Some causal models count positions from another number, keep no such cache, or look ahead. Their neurons
can be decoded, but generated text would be silently wrong, so generation is refused.
"""

from __future__ import annotations

import threading
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from analysis.anatomy.contract import agree
from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel

PROBE = 6
"""Length of the text read both ways, its last tokens from the cache."""

_known: WeakKeyDictionary[LoadedModel, bool] = WeakKeyDictionary()
_table = threading.Lock()


def find_room(loaded: LoadedModel, length: int) -> int:
    """How many tokens can be written behind a prompt of a length: up to the end of the context.

    Models whose positions are scaled otherwise beyond a length (longrope: Phi-3) end there too, where the
    prompt is shorter: what was cached before that border was computed for the other scale, and transformers
    computes all of it again.
    """
    rope = getattr(loaded.model.config.get_text_config(), "rope_parameters", None) or {}
    border = rope.get("original_max_position_embeddings") if rope.get("rope_type") == "longrope" else None
    context = loaded.anatomy.context
    if isinstance(border, int) and length <= border:
        return min(border + 1, context) - length
    return context - length


def check_continues(loaded: LoadedModel) -> None:
    """Raise HeadlampError for a model whose cached and uncached outputs differ.

    Two short forward passes, once per loaded model.
    """
    with _table:
        known = _known.get(loaded)
    if known is None:
        known = _continues(loaded)
        with _table:
            _known[loaded] = known
    if not known:
        raise HeadlampError(
            f"{loaded.ref.name} ({loaded.anatomy.architecture}) computes other logits with a KV cache than "
            "without, so generated text would be wrong; "
            "its neurons can be decoded and searched"
        )


def _continues(loaded: LoadedModel) -> bool:
    ids = (torch.arange(PROBE, device=loaded.device) * 5 + 1)[None] % len(loaded.vocabulary)
    with loaded.lock, torch.inference_mode():
        whole = loaded.model(input_ids=ids, use_cache=False).logits[:, -1]
        try:
            last = _from_cache(loaded, ids)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError):
            return False  # whatever it raised, the model cannot continue a text
    return agree(last, whole)


def _from_cache(loaded: LoadedModel, ids: Tensor) -> Tensor:
    cache = DynamicCache(config=loaded.model.config)
    logits = torch.empty(0)
    for start, end in ((0, PROBE - 2), (PROBE - 2, PROBE - 1), (PROBE - 1, PROBE)):
        positions = torch.arange(start, end, device=ids.device)[None]
        logits = loaded.model(
            input_ids=ids[:, start:end], position_ids=positions, past_key_values=cache, use_cache=True
        ).logits
    return logits[:, -1]
