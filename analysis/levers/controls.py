"""Controls of a lever: random neurons of its blocks, given the search it was given (METHODS §2)."""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import torch

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.intervening.residual_units import find_writers
from analysis.levers.bench import WordBench
from analysis.levers.grids import scale_values
from analysis.levers.readings import Clamps
from analysis.levers.search import NeuronSearch, search_values, try_rows
from analysis.levers.sets import FACTORS, refine_values
from analysis.opening.models import LoadedModel

CONTROLS = 20
"""How many sets of random neurons."""
REFINED_SHARE = 0.3
"""Share of the random neurons of a block that get the full grid, the best after the coarse one."""


def draw_neurons(
    loaded: LoadedModel, block: BlockAddress, count: int, seed: int, without: Collection[NeuronAddress] = ()
) -> list[NeuronAddress]:
    """Neurons of a block that write something, drawn without replacement; fewer if it has no more."""
    index = loaded.anatomy.index(block)
    generator = torch.Generator().manual_seed((seed * 1_000_003 + index) % 2**63)
    whole = loaded.anatomy.blocks[index]
    order = torch.randperm(whole.d_ff, generator=generator)
    drawn = (NeuronAddress(block, neuron) for neuron in order[find_writers(loaded, whole)[order]].tolist())
    return [neuron for neuron in drawn if neuron not in without][:count]


class ValueControls:
    """Sets of random neurons, matched to levers in their blocks; each block's neurons are searched once."""

    def __init__(self, bench: WordBench, seed: int, without: Collection[NeuronAddress] = ()) -> None:
        self._bench, self._seed, self._without = bench, seed, frozenset(without)
        self._of: dict[BlockAddress, list[NeuronSearch]] = {}

    def match(self, clamps: Clamps, count: int = CONTROLS) -> list[Clamps]:
        """Up to `count` sets of random neurons, one for each of a lever's, each at the values that raise the
        word most on the selection prompts.
        """
        blocks = [clamp.address.block for clamp in clamps]
        taken = dict.fromkeys(blocks, 0)
        columns = []
        for block in blocks:
            times, at = blocks.count(block), taken[block]
            found = self._search(block, count, times)
            share = min(count, len(found) // times)  # a block may have too few neurons for all
            taken[block] += share
            columns.append(found[at : at + share])
        sets = list(zip(*columns, strict=False))
        if len(blocks) == 1:
            return [neuron.best.clamps for (neuron,) in sets]
        rows = [
            _scaled(members, factors) for members in sets for factors in product(FACTORS, repeat=len(blocks))
        ]
        if not rows:
            return []
        tried, _ = try_rows(self._bench, rows)
        size = len(FACTORS) ** len(blocks)
        best = [max(tried[at : at + size], key=lambda one: one.log_odds) for at in range(0, len(rows), size)]
        return [one.clamps for one in refine_values(self._bench, best)]

    def _search(self, block: BlockAddress, count: int, times: int) -> list[NeuronSearch]:
        """The drawn neurons of a block in the order of their draw, each with its values."""
        known = self._of.get(block, [])
        if len(known) < count * times:
            drawn = draw_neurons(self._bench.loaded, block, count * times, self._seed, self._without)[
                len(known) :
            ]
            found = search_values(self._bench, drawn, max(1, round(REFINED_SHARE * len(drawn))))
            by_address = {search.address: search for search in found}
            known = [*known, *(by_address[neuron] for neuron in drawn)]
            self._of[block] = known
        return known


def _scaled(members: tuple[NeuronSearch, ...], factors: tuple[float, ...]) -> Clamps:
    clamps = tuple(clamp for member in members for clamp in member.best.clamps)
    return scale_values(clamps, factors)


def draw_shortlist(loaded: LoadedModel, like: Collection[NeuronAddress], seed: int) -> list[NeuronAddress]:
    """As many random neurons as a shortlist has, from the same blocks, none of them on it."""
    blocks = [neuron.block for neuron in like]
    counts = {block: blocks.count(block) for block in blocks}
    drawn = []
    for block, count in counts.items():
        drawn += draw_neurons(loaded, block, count, seed + 1, frozenset(like))
    return drawn
