"""Profile of a model's FFN blocks and residuals over a text (METHODS §3); `merging.py` makes it of batches.

The size of a batch's result does not depend on the sequence length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.anatomy.anatomy import Block
from analysis.super_experts.block_peaks import BlockPeaks
from analysis.super_experts.forming import BlockForming
from analysis.super_experts.residuals import ResidualPeaks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class BatchProfile:
    """Profile of one batch of B equally long sequences: n blocks, and the residual after m layers.

    blocks, residuals, forming: their `token` counts through the flattened batch. ids (B, T): the batch.
    """

    blocks: BlockPeaks
    residuals: ResidualPeaks
    forming: BlockForming
    ids: Array


@dataclass(frozen=True)
class TokenPlace:
    """A token of the text: its id, its position in its window, the window's number."""

    token_id: int
    position: int
    window: int


@dataclass(frozen=True)
class BlockFormation:
    """How one block takes part in forming massive activations over the whole text; fields as in BlockForming.

    formed, jointly, unknown: windows. place, dimension, column: of the largest share; None without one.
    """

    formed: int = 0
    jointly: int = 0
    unknown: int = 0
    share: float = 0.0
    added: float = 0.0
    apart: float = 0.0
    place: TokenPlace | None = None
    dimension: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class BlockRow:
    """One FFN block over the whole text; places None where it saw no token. Fields as in BlockPeaks.

    sink: windows whose first token it was given. formation: None where its layer's FFN output is unknown.
    """

    block: Block
    max_abs: float
    first_routed: float
    count: int
    place: TokenPlace | None
    row: int | None
    column: int | None
    sink: int = 0
    formation: BlockFormation | None = None


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

    readable: whether the FFN's contribution is known; if not, `formed` is None. massive: windows with a
    massive activation after the layer, whatever formed it.
    """

    layer: int
    first: ResidualPeak | None
    others: ResidualPeak | None
    formed: FormedActivation | None
    readable: bool
    massive: int = 0


@dataclass(frozen=True)
class ExpertProfile:
    """Profile of a text: the blocks in the anatomy's order, the layers, and the number of tokens.

    windows: how many; length: tokens of the longest; begins: the token id all windows begin with, None where
    they differ.
    """

    blocks: tuple[BlockRow, ...]
    layers: tuple[LayerRow, ...]
    tokens: int
    depth: int
    windows: int = 1
    length: int = 0
    begins: int | None = None

    @property
    def experts(self) -> tuple[BlockRow, ...]:
        """Routed and shared experts."""
        return tuple(row for row in self.blocks if row.block.address.expert is not None)

    @property
    def dense(self) -> tuple[BlockRow, ...]:
        """Blocks that are the only one of their layer."""
        return tuple(row for row in self.blocks if row.block.address.expert is None)
