"""Merging of a text's batches into one profile; of equal maxima the first counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from analysis.anatomy.anatomy import Block
from analysis.opening.models import LoadedModel
from analysis.super_experts.profile import (
    Array,
    BatchProfile,
    BlockFormation,
    BlockRow,
    ExpertProfile,
    FormedActivation,
    LayerRow,
    ResidualPeak,
    TokenPlace,
)
from analysis.super_experts.residual_layers import ResidualLayer, residual_layers
from analysis.super_experts.residuals import KINDS


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
    readable = {layer.number for layer in layers if layer.writer is not None}
    return ExpertProfile(
        tuple(found.block_row(at, block, block.address.layer in readable) for at, block in enumerate(blocks)),
        tuple(
            LayerRow(
                layer.number,
                found.peak(0, at),
                found.peak(1, at),
                found.formed_at(at),
                layer.writer is not None,
                int(found.massive[at]),
            )
            for at, layer in enumerate(layers)
        ),
        found.tokens,
        depth,
        found.windows,
        found.length,
        found.begins,
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
        self.tokens, self.windows, self.length = 0, 0, 0
        self._first_ids: set[int] = set()
        self._largest, self._first_routed = _Largest(blocks), np.zeros(blocks, np.float32)
        self._count, self._sink = np.zeros((2, blocks), np.int64)
        self._share, self._apart = _Largest(blocks), np.zeros(blocks, np.float32)
        self._forming = np.zeros((3, blocks), np.int64)
        self.massive = np.zeros(layers, np.int64)
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
        self._sink += blocks.sink
        self._take_forming(batch)
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
        self.massive += residuals.massive
        self.tokens += batch.ids.size
        self.windows += len(batch.ids)
        self.length = max(self.length, batch.ids.shape[1])
        self._first_ids.update(batch.ids[:, 0].tolist())

    def _take_forming(self, batch: BatchProfile) -> None:
        forming = batch.forming
        self._forming += np.stack([forming.formed, forming.jointly, forming.unknown])
        np.maximum(self._apart, forming.apart, out=self._apart)
        places = self._places(batch, forming.token)
        own = {name: getattr(forming, name) for name in ("dimension", "column", "added")}
        self._share.take(forming.share, forming.share > 0, **places, **own)

    @property
    def begins(self) -> int | None:
        """The token id that all windows begin with."""
        return min(self._first_ids) if len(self._first_ids) == 1 else None

    def _places(self, batch: BatchProfile, token: Array) -> dict[str, Array]:
        """Positions of a batch's tokens in the whole text. token: NOWHERE gives arbitrary values."""
        row, position = np.divmod(token, batch.ids.shape[1])
        return {"token_id": batch.ids[row, position], "position": position, "window": row + self.windows}

    def block_row(self, at: int, block: Block, readable: bool) -> BlockRow:
        formation = self._formation(at) if readable else None
        if not self._count[at]:
            return BlockRow(block, 0.0, 0.0, 0, None, None, None, 0, formation)
        size, found = self._largest.at(at)
        return BlockRow(
            block,
            size,
            float(self._first_routed[at]),
            int(self._count[at]),
            self._largest.place(at),
            found["row"],
            found["column"],
            int(self._sink[at]),
            formation,
        )

    def _formation(self, at: int) -> BlockFormation:
        formed, jointly, unknown = (int(count) for count in self._forming[:, at])
        found = BlockFormation(formed, jointly, unknown, apart=float(self._apart[at]))
        if not self._share.seen[at]:
            return found
        share, own = self._share.at(at)
        where = {name: own[name] for name in ("added", "dimension", "column")}
        return replace(found, share=share, place=self._share.place(at), **where)

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
