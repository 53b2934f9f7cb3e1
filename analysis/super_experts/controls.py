"""Sets to prune, and random sets of the same size as controls (METHODS §3).

    −random                     as many experts of any layer
    −random in the same layers  as many experts of each affected layer

Pruned and super experts are never drawn, nor experts that received no token: removing those changes
nothing. A set with all routed experts of a layer is redrawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from analysis.anatomy.addresses import BlockAddress, NeuronAddress, parse_part
from analysis.errors import ExpertError
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneColumn, PruneExpert
from analysis.super_experts.profile import BlockRow, ExpertProfile

DRAWS = 20
_TRIES = 1000
Part = BlockAddress | NeuronAddress
"""An expert or a whole dense block; or one column of a block's down projection, by its neuron."""


def parse_parts(text: str) -> list[Part]:
    """Parse `L1.E68, L2.N47` into distinct parts. Raises BadAddress, also for an empty list."""
    named = [part for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(map(parse_part, named or [text])))


def make_pruning(parts: Sequence[Part]) -> list[Change]:
    """The interventions that prune these parts."""
    return [PruneExpert(part) if isinstance(part, BlockAddress) else PruneColumn(part) for part in parts]


def list_super_parts(rows: Sequence[BlockRow]) -> list[Part]:
    """The parts to prune for super blocks: a whole expert; in a dense block the super weight's column."""
    return [
        row.block.address
        if row.block.address.expert is not None
        else NeuronAddress(row.block.address, _super_column(row))
        for row in rows
    ]


def _super_column(row: BlockRow) -> int:
    """The neuron that forms the massive activation, or else that writes the block's largest output."""
    formed = row.formation is not None and row.formation.formed > 0
    column = row.formation.column if row.formation is not None and formed else row.column
    return column or 0


def draw_sets(
    profile: ExpertProfile,
    parts: Sequence[Part],
    spared: Sequence[BlockAddress],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    same_layers: bool,
) -> list[tuple[Part, ...]]:
    """Draw `draws` sets as large as `parts` and of the same kind; duplicates may occur. seed: 0 or more.

    spared: further blocks that are never drawn. Empty if too few are left to draw from.
    """
    if draws < 0:
        raise ExpertError(f"{draws} draws: choose 0 or more")
    chosen = np.random.default_rng([seed, int(same_layers)])
    pools = _pools(profile, parts, spared, same_layers)
    if any(len(pool) < count for pool, count in pools):
        return []
    found: list[tuple[Part, ...]] = []
    for _ in range(_TRIES):
        if len(found) == draws:
            break
        one = [pool[i] for pool, count in pools for i in chosen.choice(len(pool), count, replace=False)]
        if not _takes_a_layer(profile, one):
            found.append(tuple(sorted(one, key=str)))
    return found


def _pools(
    profile: ExpertProfile, parts: Sequence[Part], spared: Sequence[BlockAddress], same_layers: bool
) -> list[tuple[Sequence[Part], int]]:
    """(candidates, how many to draw): for neurons per block, for experts per layer, or all together."""
    taken = {part for part in parts if isinstance(part, BlockAddress)} | set(spared)
    neurons = Counter(part.block for part in parts if isinstance(part, NeuronAddress))
    blocks = Counter(part.layer for part in parts if isinstance(part, BlockAddress))
    dense = all(part.expert is None for part in parts if isinstance(part, BlockAddress))
    rows = profile.dense if dense else profile.experts
    free = [r.block.address for r in rows if r.count and r.block.address not in taken]
    widths = {row.block.address: row.block.d_ff for row in profile.blocks}
    if same_layers:
        return [
            *(([a for a in free if a.layer == layer], count) for layer, count in blocks.items()),
            *((_others(block, widths[block], parts), count) for block, count in neurons.items()),
        ]
    pools: list[tuple[Sequence[Part], int]] = [(free, blocks.total())] if blocks else []
    if neurons:
        alike = [a for a in widths if (a.expert is None) == all(b.expert is None for b in neurons)]
        pools.append(([n for a in alike for n in _others(a, widths[a], parts)], neurons.total()))
    return pools


def _others(block: BlockAddress, width: int, parts: Sequence[Part]) -> list[NeuronAddress]:
    every = [NeuronAddress(block, neuron) for neuron in range(width)]
    return [neuron for neuron in every if neuron not in parts]


def _takes_a_layer(profile: ExpertProfile, parts: Sequence[Part]) -> bool:
    routed = Counter(row.block.address.layer for row in profile.blocks if row.block.routed)
    drawn = Counter(
        p.layer for p in parts if isinstance(p, BlockAddress) and p.expert is not None and not p.shared
    )
    return any(drawn[layer] >= routed[layer] for layer in drawn)
