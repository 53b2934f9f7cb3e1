"""Profile of a model's FFN blocks and residuals over a whole text, merged from its batches (METHODS §3).

The size of a batch's result does not depend on the sequence length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.anatomy.anatomy import Block
from analysis.opening.models import LoadedModel
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.residual_layers import ResidualLayer, residual_layers
from analysis.super_experts.residuals import KINDS, ResidualPeaks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BatchProfile:
    """Profile of one batch of B equally long sequences: n blocks, and the residual after m layers.

    blocks, residuals: their `token` counts through the flattened batch. ids (B, T): the batch.
    """

    blocks: BlockPeaks
    residuals: ResidualPeaks
    ids: Array


@dataclass(frozen=True)
class TokenPlace:
    """A token of the text: its id, its position in its window, the window's number."""

    token_id: int
    position: int
    window: int


@dataclass(frozen=True)
class BlockRow:
    """One FFN block over the whole text; places None where it saw no token. Fields as in BlockPeaks."""

    block: Block
    max_abs: float
    first_routed: float
    count: int
    place: TokenPlace | None
    row: int | None
    column: int | None


@dataclass(frozen=True)
class ResidualPeak:
    """The largest |h| after a layer at one kind of position; median |h|: median of the sequences' medians."""

    max_abs: float
    median: float
    place: TokenPlace
    dimension: int


@dataclass(frozen=True)
class FormedActivation:
    """A massive activation; `supplied` is the layer's own FFN's share of it (≥ ½). value: signed h."""

    value: float
    supplied: float
    place: TokenPlace
    dimension: int


@dataclass(frozen=True)
class LayerRow:
    """The residual after one layer. others: None where every sequence is one token long.

    readable: whether the FFN's contribution is known; if not, `formed` is None.
    """

    layer: int
    first: ResidualPeak | None
    others: ResidualPeak | None
    formed: FormedActivation | None
    readable: bool


@dataclass(frozen=True)
class ExpertProfile:
    """Profile of a text: the blocks in the anatomy's order, the layers, and the number of tokens."""

    blocks: tuple[BlockRow, ...]
    layers: tuple[LayerRow, ...]
    tokens: int
    depth: int

    @property
    def experts(self) -> tuple[BlockRow, ...]:
        """Routed and shared experts."""
        return tuple(row for row in self.blocks if row.block.address.expert is not None)

    @property
    def dense(self) -> tuple[BlockRow, ...]:
        """Blocks that are the only one of their layer."""
        return tuple(row for row in self.blocks if row.block.address.expert is None)


def merge_batches(loaded: LoadedModel, batches: Iterable[BatchProfile]) -> ExpertProfile:
    """Merge a model's batches, in text order."""
    return merge_profiles(loaded.anatomy.blocks, residual_layers(loaded), loaded.anatomy.layers, batches)


def merge_profiles(
    blocks: Sequence[Block], layers: Sequence[ResidualLayer], depth: int, batches: Iterable[BatchProfile]
) -> ExpertProfile:
    """Merge batches in text order; of equal maxima the first counts.

    Batches are consumed one at a time; only two medians per window and layer are kept of each.
    depth: how many layers the model has.
    """
    found = _ProfileMerger(len(blocks), len(layers))
    for batch in batches:
        found.take(batch)
    return ExpertProfile(
        tuple(found.block_row(at, block) for at, block in enumerate(blocks)),
        tuple(
            LayerRow(
                layer.number,
                found.peak(0, at),
                found.peak(1, at),
                found.formed_at(at),
                layer.writer is not None,
            )
            for at, layer in enumerate(layers)
        ),
        found.tokens,
        depth,
    )


class _Largest:
    """Running maximum over all batches with its associated values; of equal ones the first."""

    def __init__(self, *shape: int) -> None:
        self.size = np.zeros(shape, np.float32)
        self.seen = np.zeros(shape, bool)
        self._with: dict[str, Array] = {}

    def take(self, size: Array, counts: Array, **carried: Array) -> None:
        """size, counts (bool: whether there is one at all), carried: of the same shape."""
        better = counts & (~self.seen | (size > self.size))
        self.size[better] = size[better]
        self.seen |= counts
        for name, array in carried.items():
            self._with.setdefault(name, np.zeros(self.size.shape, array.dtype))[better] = array[better]

    def at(self, *index: int) -> tuple[float, dict[str, Any]]:
        """(size, what came with it)."""
        return float(self.size[index]), {name: array[index].item() for name, array in self._with.items()}

    def place(self, *index: int) -> TokenPlace:
        return TokenPlace(*(int(self._with[name][index]) for name in ("token_id", "position", "window")))


class _ProfileMerger:
    """The batches merged so far, of n blocks and m layers."""

    def __init__(self, blocks: int, layers: int) -> None:
        self.tokens, self._windows = 0, 0
        self._largest, self._first_routed = _Largest(blocks), np.zeros(blocks, np.float32)
        self._count = np.zeros(blocks, np.int64)
        self._residual, self._formed = _Largest(len(KINDS), layers), _Largest(layers)
        self._medians: tuple[list[Array], ...] = tuple([np.zeros((layers, 0), np.float32)] for _ in KINDS)

    def take(self, batch: BatchProfile) -> None:
        blocks, residuals = batch.blocks, batch.residuals
        self._largest.take(
            *(blocks.largest, blocks.count > 0),
            **(self._places(batch, blocks.token) | {"row": blocks.row, "column": blocks.column}),
        )
        np.maximum(self._first_routed, blocks.first_routed, out=self._first_routed)
        self._count += blocks.count
        there = np.arange(len(KINDS)) < batch.ids.shape[1]
        self._residual.take(
            *(residuals.largest, np.broadcast_to(there[:, None], residuals.largest.shape)),
            **(self._places(batch, residuals.token) | {"dimension": residuals.dimension}),
        )
        self._formed.take(
            *(np.abs(residuals.formed), residuals.formed != 0),
            **(self._places(batch, residuals.formed_token) | {"dimension": residuals.formed_dimension}),
            value=residuals.formed,
            supplied=residuals.supplied,
        )
        for kind in np.flatnonzero(there):
            self._medians[kind].append(residuals.median[kind])
        self.tokens += batch.ids.size
        self._windows += len(batch.ids)

    def _places(self, batch: BatchProfile, token: Array) -> dict[str, Array]:
        """Positions of a batch's tokens in the whole text. token: NOWHERE gives arbitrary values."""
        row, position = np.divmod(token, batch.ids.shape[1])
        return {"token_id": batch.ids[row, position], "position": position, "window": row + self._windows}

    def block_row(self, at: int, block: Block) -> BlockRow:
        if not self._count[at]:
            return BlockRow(block, 0.0, 0.0, 0, None, None, None)
        size, found = self._largest.at(at)
        first, count = float(self._first_routed[at]), int(self._count[at])
        return BlockRow(block, size, first, count, self._largest.place(at), found["row"], found["column"])

    def peak(self, kind: int, at: int) -> ResidualPeak | None:
        if not self._residual.seen[kind, at]:
            return None
        size, found = self._residual.at(kind, at)
        median = float(np.median(np.concatenate([medians[at] for medians in self._medians[kind]])))
        return ResidualPeak(size, median, self._residual.place(kind, at), found["dimension"])

    def formed_at(self, at: int) -> FormedActivation | None:
        if not self._formed.seen[at]:
            return None
        _, found = self._formed.at(at)
        return FormedActivation(found["value"], found["supplied"], self._formed.place(at), found["dimension"])
