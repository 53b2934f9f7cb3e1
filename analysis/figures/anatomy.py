"""Figure of a model's blocks: one bar per layer, its length the number of neurons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import plotly.graph_objects as go

from analysis.figures.theme import CATEGORIES, apply_theme

BlockKind = Literal["dense", "routed", "shared"]
BLOCK_KINDS: tuple[BlockKind, ...] = get_args(BlockKind)
_NAMES = {"dense": "dense block", "routed": "routed experts", "shared": "shared experts"}
BAR_HEIGHT, SHORTEST, TALLEST = 20, 180, 620


@dataclass(frozen=True)
class BlockTable:
    """Every FFN block of a model. layer (b,) from 0, kind (b,) of BLOCK_KINDS, width (b,): its neurons."""

    layer: np.ndarray[Any, Any]
    kind: np.ndarray[Any, Any]
    width: np.ndarray[Any, Any]

    def __post_init__(self) -> None:
        if not self.layer.shape == self.kind.shape == self.width.shape or self.layer.ndim != 1:
            raise ValueError("a BlockTable's arrays must all describe the same blocks")
        unknown = set(self.kind.tolist()) - set(BLOCK_KINDS)
        if unknown:
            raise ValueError(f"block kinds {sorted(unknown)} are none of {BLOCK_KINDS}")

    def of(self, kind: BlockKind, layer: int) -> np.ndarray[Any, Any]:
        """The widths of one layer's blocks of a kind."""
        return np.asarray(self.width[(self.kind == kind) & (self.layer == layer)])


def anatomy_figure(blocks: BlockTable) -> go.Figure:
    """Layers from the bottom up, in the order of the residual stream; x: neurons, by kind of block."""
    layers = np.unique(blocks.layer)
    figure = go.Figure()
    for kind, colour in zip(BLOCK_KINDS, CATEGORIES, strict=False):
        if not (blocks.kind == kind).any():
            continue
        widths = [blocks.of(kind, int(layer)) for layer in layers]
        figure.add_bar(
            x=[int(w.sum()) for w in widths],
            y=[f"L{layer}" for layer in layers],
            orientation="h",
            name=_NAMES[kind],
            marker_color=colour,
            hovertext=[_describe(kind, int(layer), w) for layer, w in zip(layers, widths, strict=True)],
            hoverinfo="text",
        )
    height = int(np.clip(BAR_HEIGHT * len(layers) + 80, SHORTEST, TALLEST))
    figure.update_layout(barmode="stack", bargap=0.25, xaxis_title="neurons", yaxis_type="category")
    figure.update_layout(
        showlegend=len(figure.data) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    )
    return apply_theme(figure, height=height)


def _describe(kind: BlockKind, layer: int, widths: np.ndarray[Any, Any]) -> str:
    if len(widths) == 0:
        return f"L{layer}: no {_NAMES[kind]}"
    if kind == "dense":
        return f"L{layer}: dense block of {int(widths.sum()):,} neurons"
    each = f"{int(widths[0]):,}" if len(set(widths.tolist())) == 1 else f"{widths.min():,}–{widths.max():,}"
    return f"L{layer}: {len(widths)} {kind} expert{'s' * (len(widths) > 1)} × {each} neurons"
