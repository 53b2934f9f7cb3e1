"""Many clamped rows of the same text: what lies before their clamps is computed once (METHODS §2, "Sweep").

The tokens before the clamped positions are fed once and read from their cache; the layers below the lowest
clamped one are run once, and every row begins from what they gave. Equal to single clamps up to rounding.
A model for which a trial shows that this is not so gets every row whole.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.contract import agree
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp, Scope
from analysis.intervening.interventions import Intervention, intervene
from analysis.intervening.layers import NoteLayers, SkipLayers, is_batch_first, list_layers
from analysis.intervening.steps import Reach
from analysis.opening.models import LoadedModel
from analysis.running.continuing import check_continues

BYTES_AT_ONCE = 192 * 2**20
"""Largest size of the logits and states of the rows that are run together."""
MOST_ROWS = 512
FEWEST_ROWS = 96
"""Rows below which those of the next lower layer join: reading the weights once more costs more than it."""
PROBE = 8
"""Length of the texts by which it is tried whether a model's rows can share what they have in common."""

_known: WeakKeyDictionary[LoadedModel, bool] = WeakKeyDictionary()
_table = threading.Lock()


@dataclass(frozen=True)
class HeldRow:
    """One row to run: which of the texts, and the clamps held in it."""

    text: int
    clamps: tuple[Clamp, ...]


@dataclass(frozen=True)
class RowLogits:
    """Logits of some rows. rows (n,): their places in what was asked. logits (n, keep, V) float32, −∞ at
    holes; not finite where a clamp drove the model to NaN. acted (n,): positions on which each row's clamps
    acted, all together.
    """

    rows: tuple[int, ...]
    logits: Tensor
    acted: tuple[int, ...]


class SharedTexts:
    """Texts of equal length whose rows differ only from position `start` on.

    texts (B, T) token ids. prompt_length: in tokens, by which scopes are read. keep: of how many last
    positions the logits are wanted. begun: one whose texts are the same up to `start`, which is then not fed
    again. Raises HeadlampError for a model that cannot continue a text, or that
    itself gives NaN.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        texts: Sequence[Sequence[int]],
        start: int,
        prompt_length: int,
        keep: int = 1,
        *,
        sharing: bool | None = None,
        begun: SharedTexts | None = None,
    ) -> None:
        check_continues(loaded)
        self.loaded, self.keep, self.prompt_length = loaded, keep, prompt_length
        shares = can_share(loaded) if sharing is None else sharing
        self.start = min(start, len(texts[0]) - keep) if shares else 0
        self._ids = torch.tensor([list(text) for text in texts], device=loaded.device)
        self._layers = list_layers(loaded) if shares else []
        same = begun is not None and begun.start == self.start and shares
        known = begun._cache if begun is not None and same else None
        self._cache: DynamicCache | None = known or self._feed_beginning()
        noted = NoteLayers(tuple(self._layers))
        everyone = torch.arange(len(texts), device=loaded.device)
        self.base, _ = self._feed(everyone, [noted], None, 0)
        """(B, keep, V) float32: logits without any clamp."""
        if not bool(torch.isfinite(self.base).any(-1).all()) or bool(torch.isnan(self.base).any()):
            raise HeadlampError(f"{loaded.ref.name} itself gives NaN or infinity for this text; use float32")
        shape = len(texts), self._ids.shape[1] - self.start
        outputs = noted.outputs
        known = all(name in outputs and is_batch_first(outputs[name], *shape) for name in self._layers)
        self._outputs: dict[str, Any] = outputs if known else {}

    def run(self, rows: Sequence[HeldRow]) -> Iterator[RowLogits]:
        """The logits of rows, several at a time, those with the highest lowest layer first."""
        skipped = [self._count_skipped(row.clamps) for row in rows]
        waiting: list[int] = []
        size = self._rows_at_once()
        for index in sorted(range(len(rows)), key=lambda index: -skipped[index]):
            deeper = bool(waiting) and skipped[index] < skipped[waiting[-1]]
            if len(waiting) == size or (deeper and len(waiting) >= FEWEST_ROWS):
                yield self._run_together(rows, waiting, skipped[waiting[-1]])
                waiting = []
            waiting.append(index)
        if waiting:
            yield self._run_together(rows, waiting, skipped[waiting[-1]])

    def _run_together(self, rows: Sequence[HeldRow], members: Sequence[int], skipped: int) -> RowLogits:
        clamps = [clamp for index in members for clamp in rows[index].clamps]
        own = [place for place, index in enumerate(members) for _ in rows[index].clamps]
        texts = torch.tensor([rows[index].text for index in members], device=self._ids.device)
        changes: list[Intervention] = [*clamps]
        if skipped:
            names = self._layers[:skipped]
            changes.append(SkipLayers({name: self._outputs[name] for name in names}, texts))
        logits, reach = self._feed(texts, changes, [[place] for place in own], skipped)
        acted = [0] * len(members)
        for place, count in zip(own, reach.acted, strict=True):
            acted[place] += count
        return RowLogits(tuple(members), logits, tuple(acted))

    def _feed(
        self,
        texts: Tensor,
        changes: Sequence[Intervention],
        rows: Sequence[Sequence[int]] | None,
        skipped: int,
    ) -> tuple[Tensor, Reach]:
        """Feed every text's tokens from `start` on: (n, keep, V) logits, and the reach."""
        fed = self._ids[texts, self.start :]
        positions = torch.arange(self.start, self._ids.shape[1], device=fed.device).expand(len(fed), -1)
        cache = None if self._cache is None else _share_cache(self._cache, texts, skipped)
        held = intervene(
            self.loaded, changes, positions=positions, prompt_length=self.prompt_length, rows=rows
        )
        with held as reach, torch.no_grad():
            output = self.loaded.model(
                input_ids=fed,
                position_ids=positions,
                logits_to_keep=self.keep,
                use_cache=cache is not None,
                **({} if cache is None else {"past_key_values": cache}),
            )
        return self.loaded.vocabulary.restrict(output.logits[:, -self.keep :].float()), reach

    def _feed_beginning(self) -> DynamicCache | None:
        """The cache of what lies before `start`; None where nothing does."""
        if not self.start:
            return None
        cache = DynamicCache(config=self.loaded.model.config)
        fed = self._ids[:, : self.start]
        positions = torch.arange(self.start, device=fed.device).expand(len(fed), -1)
        with intervene(self.loaded, (), positions=positions), torch.no_grad():
            self.loaded.model(
                input_ids=fed,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return cache

    def _count_skipped(self, clamps: Iterable[Clamp]) -> int:
        """How many of the first layers no clamp is in, out of those whose output is known."""
        if not self._outputs:
            return 0
        lowest = min((clamp.address.block.layer for clamp in clamps), default=len(self._layers))
        return min(lowest, len(self._layers))

    def _rows_at_once(self) -> int:
        fed = self._ids.shape[1] - self.start
        anatomy = self.loaded.anatomy
        width = max(anatomy.d_model, max(block.d_ff for block in anatomy.blocks))
        each = 4 * (2 * self.keep * len(self.loaded.vocabulary) + fed * (8 * width + self._ids.shape[1]))
        return max(1, min(MOST_ROWS, BYTES_AT_ONCE // each))


def _share_cache(cache: DynamicCache, texts: Tensor, skipped: int) -> DynamicCache:
    """A cache from which rows read what their text began with, and to which nothing is added."""
    shared = copy.copy(cache)
    shared.layers = [
        layer if index < skipped else _share_layer(layer, texts) for index, layer in enumerate(cache.layers)
    ]
    return shared


def _share_layer(layer: Any, texts: Tensor) -> Any:
    if not layer.is_initialized:
        return copy.copy(layer)
    shared = copy.copy(layer)

    def update(keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        rows = texts.to(layer.keys.device)
        began = [
            old.expand(len(rows), -1, -1, -1) if len(old) == 1 else old[rows]
            for old in (layer.keys, layer.values)
        ]
        return torch.cat([began[0], keys], -2), torch.cat([began[1], values], -2)

    shared.update = update
    return shared


def can_share(loaded: LoadedModel) -> bool:
    """Whether rows that begin from a shared cache and from a layer's known output equal rows fed whole.

    Tried once per model, on two short texts.
    """
    with _table:
        known = _known.get(loaded)
    if known is None:
        known = _try_sharing(loaded)
        with _table:
            _known[loaded] = known
    return known


def _try_sharing(loaded: LoadedModel) -> bool:
    cache = DynamicCache(config=loaded.model.config)
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers):
        return False
    size, blocks = len(loaded.vocabulary), loaded.anatomy.blocks
    texts = [[(5 * i + 3 * row + 1) % size for i in range(PROBE)] for row in range(2)]
    rows = [
        HeldRow(
            text,
            (Clamp(NeuronAddress(blocks[at].address, 0), "key", "add", 1.0, scope=Scope("last"), raw=1.0),),
        )
        for text in range(2)
        for at in (0, len(blocks) // 2, -1)
    ]
    try:
        whole, shared = (
            SharedTexts(loaded, texts, PROBE - 3, PROBE - 2, keep=2, sharing=how) for how in (False, True)
        )
        return agree(shared.base, whole.base) and agree(_gather(shared, rows), _gather(whole, rows))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, NotImplementedError):
        return False  # whatever it raised, each row is fed whole


def _gather(texts: SharedTexts, rows: Sequence[HeldRow]) -> Tensor:
    found = {index: out.logits[n] for out in texts.run(rows) for n, index in enumerate(out.rows)}
    held = torch.stack([found[index] for index in range(len(rows))])
    return held.nan_to_num(neginf=0.0)
