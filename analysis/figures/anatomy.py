"""Figure of a model's layers: neighbours that are alike as one box, `30 × a feed-forward block`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import plotly.graph_objects as go

from analysis.figures.theme import CATEGORIES, NEUTRAL, apply_theme

BlockKind = Literal["dense", "routed", "shared"]
BLOCK_KINDS: tuple[BlockKind, ...] = get_args(BlockKind)
BOX_HEIGHT, FRAME_HEIGHT = 44, 20
MOST_GROUPS, MOST_DRAWN = 8, 12
_FILL = "rgba(139,139,139,0.14)"


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

    def of(self, layer: int) -> tuple[tuple[str, int], ...]:
        """(kind, width) of one layer's blocks, in order."""
        here = self.layer == layer
        return tuple(zip(self.kind[here].tolist(), map(int, self.width[here].tolist()), strict=True))


@dataclass(frozen=True)
class LayerGroup:
    """Layers with equal blocks. layers: ascending; blocks: (kind, width) of each layer."""

    layers: tuple[int, ...]
    blocks: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        """`L0`, `L0 to L29`, or `L0, L2 … L28` where others lie between."""
        first, last = self.layers[0], self.layers[-1]
        if len(self.layers) == 1:
            return f"L{first}"
        if last - first == len(self.layers) - 1:
            return f"L{first} to L{last}"
        return f"L{first}, L{self.layers[1]}" + (f" … L{last}" if len(self.layers) > 2 else "")

    def describe(self) -> str:
        """`a feed-forward block of 1,536 neurons`."""
        said = []
        for kind in BLOCK_KINDS:
            widths = [width for one, width in self.blocks if one == kind]
            if widths:
                said.append(_describe_blocks(kind, widths))
        return " and ".join(said)


def group_layers(blocks: BlockTable) -> list[LayerGroup]:
    """The layers with blocks, from the bottom up: neighbours that are alike together; where that makes more
    than 8 groups, all that are alike.
    """
    alike: dict[tuple[tuple[str, int], ...], list[int]] = {}
    groups: list[LayerGroup] = []
    for layer in map(int, np.unique(blocks.layer)):
        here = blocks.of(layer)
        alike.setdefault(here, []).append(layer)
        if groups and groups[-1].blocks == here and groups[-1].layers[-1] == layer - 1:
            groups[-1] = LayerGroup((*groups[-1].layers, layer), here)
        else:
            groups.append(LayerGroup((layer,), here))
    if len(groups) <= MOST_GROUPS:
        return groups
    return [LayerGroup(tuple(layers), here) for here, layers in alike.items()]


def anatomy_figure(groups: Sequence[LayerGroup]) -> go.Figure:
    """A stack of boxes, one for each group, with embedding below and head above."""
    figure = go.Figure()
    rows = [("embedding", "tokens become vectors", NEUTRAL)]
    drawn = groups[:MOST_DRAWN]
    rows += [(f"{len(group.layers):,} × {group.describe()}", group.name, CATEGORIES[0]) for group in drawn]
    if len(groups) > len(drawn):
        rows.append((f"{len(groups) - len(drawn):,} more kinds of layers", "in the CSV", CATEGORIES[0]))
    rows += [("language-model head", "vectors become tokens", NEUTRAL)]
    for at, (label, beside, colour) in enumerate(rows):
        figure.add_shape(
            type="rect",
            x0=0,
            x1=1,
            y0=at + 0.12,
            y1=at + 0.88,
            line={"color": colour, "width": 2},
            fillcolor=_FILL,
        )
        figure.add_annotation(x=0.02, y=at + 0.5, text=label, showarrow=False, xanchor="left")
        figure.add_annotation(x=1.02, y=at + 0.5, text=beside, showarrow=False, xanchor="left")
    figure.add_scatter(x=[0.5], y=[0.5], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    figure.update_xaxes(visible=False, range=[0, 1.3], fixedrange=True)
    figure.update_yaxes(visible=False, range=[0, len(rows)], fixedrange=True)
    figure.update_layout(showlegend=False)
    return apply_theme(figure, height=BOX_HEIGHT * len(rows) + FRAME_HEIGHT)


def _describe_blocks(kind: BlockKind, widths: Sequence[int]) -> str:
    each = f"{widths[0]:,}" if len(set(widths)) == 1 else f"{min(widths):,} to {max(widths):,}"
    if kind == "dense":
        return f"a feed-forward block of {each} neurons"
    experts = "expert" if len(widths) == 1 else "experts"
    return f"{len(widths):,} {kind} {experts} of {each} neurons"
