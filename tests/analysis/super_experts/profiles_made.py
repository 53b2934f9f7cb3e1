"""Profiles written down as numbers, for tests of what is made of them."""

from collections.abc import Mapping
from dataclasses import replace

from analysis.anatomy.addresses import BlockAddress, parse_part
from analysis.anatomy.anatomy import Block, WeightView
from analysis.super_experts.profile import (
    BlockFormation,
    BlockRow,
    ExpertProfile,
    FormedActivation,
    LayerRow,
    ResidualPeak,
    TokenPlace,
)

HERE = TokenPlace(1, 0, 0)


def made_profile(
    sizes: Mapping[str, float],
    *,
    massive: tuple[int, ...] = (),
    depth: int = 4,
    first_routed: Mapping[str, float] | None = None,
    readable: bool = True,
    largest: float = 20.0,
    forming: Mapping[str, BlockFormation] | None = None,
    windows: int = 4,
) -> ExpertProfile:
    """A profile whose blocks have these largest outputs (0: saw no token); the layers `massive` form some.

    forming: what some blocks have to do with it; all others nothing.
    """
    rows = []
    for address, size in sizes.items():
        block = parse_part(address)
        assert isinstance(block, BlockAddress)
        first = (first_routed or {}).get(address, size)
        own = (forming or {}).get(address, BlockFormation()) if readable else None
        rows.append(replace(_row(block, size, first), formation=own, sink=2 if size else 0))
    layers = [
        LayerRow(
            layer,
            ResidualPeak(largest, 1.0, HERE, 3),
            ResidualPeak(largest / 2, 1.0, HERE, 3),
            FormedActivation(5e3, 0.9, HERE, 3) if layer in massive else None,
            readable,
            windows if layer in massive else 0,
        )
        for layer in range(depth)
    ]
    return ExpertProfile(tuple(rows), tuple(layers), 1000, depth, windows, 250, 1)


def _row(address: BlockAddress, size: float, first: float) -> BlockRow:
    view = WeightView("w", 0, 8)
    block = Block(address, 8, f"layers.{address.layer}", view, view, view, fused=address.expert is not None)
    if not size:
        return BlockRow(block, 0.0, 0.0, 0, None, None, None)
    return BlockRow(block, size, first, 10, HERE, 3, 5)
