"""What a whole text showed of a model's FFN blocks and residuals, merged from its batches (METHODS §3).

A batch's result is of one size however long its sequences are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.anatomy.anatomy import Block
from analysis.opening.models import LoadedModel
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.residual_layers import Layer, residual_layers
from analysis.super_experts.residuals import KINDS, ResidualPeaks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BatchProfile:
    """What one batch of B equally long sequences showed of n blocks and of the residual after m layers.

    blocks, residuals: their `token` counts through the flattened batch. ids (B, T): the batch.
    """

    blocks: BlockPeaks
    residuals: ResidualPeaks
    ids: Array


@dataclass(frozen=True)
class Place:
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
    place: Place | None
    row: int | None
    column: int | None


@dataclass(frozen=True)
class Peak:
    """The largest |h| after a layer at one kind of position; median |h|: of its sequences' medians."""

    max_abs: float
    median: float
    place: Place
    dimension: int


@dataclass(frozen=True)
class Formed:
    """A massive activation that a layer's own FFN supplies `supplied` (≥ ½) of. value: h, with its sign."""

    value: float
    supplied: float
    place: Place
    dimension: int


@dataclass(frozen=True)
class LayerRow:
    """The residual after one layer. others: None where every sequence is one token long.

    readable: whether it is known what the layer's FFN adds; `formed` is always None where it is not.
    """

    layer: int
    first: Peak | None
    others: Peak | None
    formed: Formed | None
    readable: bool


@dataclass(frozen=True)
class ExpertProfile:
    """A text read by a model: its blocks in the anatomy's order, its layers, and how many tokens it had."""

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
        """Blocks that are alone in their layer."""
        return tuple(row for row in self.blocks if row.block.address.expert is None)


def merged(loaded: LoadedModel, batches: Iterable[BatchProfile]) -> ExpertProfile:
    """The profile of all batches of a model, in the order of the text."""
    return merge(loaded.anatomy.blocks, residual_layers(loaded), loaded.anatomy.layers, batches)


def merge(
    blocks: Sequence[Block], layers: Sequence[Layer], depth: int, batches: Iterable[BatchProfile]
) -> ExpertProfile:
    """The profile of all batches, in the order of the text: of equal maxima the first one counts.

    Batches are taken one at a time; of each only two medians per window and layer are kept.
    depth: how many layers the model has.
    """
    found = _Merged(len(blocks), len(layers))
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
    """The largest of each of some sizes over all batches, and what came with it: of equal ones the first."""

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

    def place(self, *index: int) -> Place:
        return Place(*(int(self._with[name][index]) for name in ("token_id", "position", "window")))


class _Merged:
    """What the batches so far showed, of n blocks and m layers."""

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
        """Where tokens of a batch stand in the whole text. token: NOWHERE gives anything."""
        row, position = np.divmod(token, batch.ids.shape[1])
        return {"token_id": batch.ids[row, position], "position": position, "window": row + self._windows}

    def block_row(self, at: int, block: Block) -> BlockRow:
        if not self._count[at]:
            return BlockRow(block, 0.0, 0.0, 0, None, None, None)
        size, found = self._largest.at(at)
        first, count = float(self._first_routed[at]), int(self._count[at])
        return BlockRow(block, size, first, count, self._largest.place(at), found["row"], found["column"])

    def peak(self, kind: int, at: int) -> Peak | None:
        if not self._residual.seen[kind, at]:
            return None
        size, found = self._residual.at(kind, at)
        median = float(np.median(np.concatenate([medians[at] for medians in self._medians[kind]])))
        return Peak(size, median, self._residual.place(kind, at), found["dimension"])

    def formed_at(self, at: int) -> Formed | None:
        if not self._formed.seen[at]:
            return None
        _, found = self._formed.at(at)
        return Formed(found["value"], found["supplied"], self._formed.place(at), found["dimension"])
