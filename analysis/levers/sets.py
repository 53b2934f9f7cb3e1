"""Sets of neurons that raise a word more than one does: grown greedily, improved, and eased (METHODS §2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from analysis.anatomy.addresses import NeuronAddress
from analysis.levers.bench import WordBench
from analysis.levers.grids import scale_values
from analysis.levers.readings import Clamps
from analysis.levers.results import SUFFICIENT
from analysis.levers.search import NeuronSearch, Tried, try_rows

POOL = 24
"""How many neurons sets are made of."""
BEAM = 4
"""How many sets of one size are continued to the next."""
FACTORS = (1.0, 0.5)
FINE = (0.5, 2**-0.5, 2**0.5, 2.0)
"""Factors by which a set's values are refined."""
ROUNDS = 3
"""Largest number of rounds of refining."""
SWAPPED = 48
"""How many neurons are tried in place of a member of the best set."""
EASED = (2**-0.25, 2**-0.5, 2**-0.75, 0.5)
"""Factors by which the values of a set that more than suffices are tried."""


def search_sets(bench: WordBench, pool: Sequence[NeuronSearch], largest: int) -> list[Tried]:
    """Greedy sets of 2 to `largest` neurons out of a pool, each member's value halved or kept; best first."""
    singles = [search.best for search in pool[:POOL]]
    kept, found = singles[:BEAM], list[Tried]()
    for _ in range(2, largest + 1):
        rows = [clamps for one in kept for clamps in _grow(one.clamps, singles)]
        if not rows:
            break
        tried, _ = try_rows(bench, list(dict.fromkeys(rows)))
        kept = _best_of_each(tried, BEAM)
        found += _best_of_each(tried, 2 * BEAM)
    return sorted(found, key=lambda one: -one.log_odds)


def improve_set(bench: WordBench, one: Tried, singles: Sequence[Tried]) -> Tried:
    """A set after a local search: finer values, then each member in turn for another neuron, finer values."""
    (finer,) = refine_values(bench, [one])
    rows = list(
        dict.fromkeys(row for at in range(len(one.clamps)) for row in _swap(finer.clamps, at, singles))
    )
    tried, _ = try_rows(bench, rows)
    best = max([finer, *tried], key=lambda one: one.log_odds)
    (best,) = refine_values(bench, [best])
    return best


def refine_values(bench: WordBench, sets: Sequence[Tried]) -> list[Tried]:
    """Each set with its members' values scaled in turn by FINE factors, as long as that raises the word."""
    best = list(sets)
    for _ in range(ROUNDS):
        rows = [list(_scale_each(one.clamps)) for one in best]
        tried, _ = try_rows(bench, [row for of_one in rows for row in of_one])
        groups = iter(tried)
        better = [
            max([one, *(next(groups) for _ in of_one)], key=lambda one: one.log_odds)
            for one, of_one in zip(best, rows, strict=True)
        ]
        if better == best:
            break
        best = better
    return best


def _scale_each(clamps: Clamps) -> Iterable[Clamps]:
    for at, factor in product(range(len(clamps)), FINE):
        yield scale_values(clamps, (*[1.0] * at, factor, *[1.0] * (len(clamps) - at - 1)))


def _swap(clamps: Clamps, at: int, singles: Sequence[Tried]) -> Iterable[Clamps]:
    """The clamps with the one at a place exchanged for each other neuron, its value kept or halved."""
    own, rest = {clamp.address for clamp in clamps}, (*clamps[:at], *clamps[at + 1 :])
    for single in singles:
        if single.clamps[0].address not in own:
            for factor in FACTORS:
                new = scale_values(single.clamps, (factor,))
                yield tuple(sorted((*rest, *new), key=lambda clamp: clamp.address))


def ease_sets(bench: WordBench, sets: Sequence[Tried]) -> list[Tried]:
    """Each set with all values as small as P(word) ≥ SUFFICIENT allows; those below it as they were."""
    rows = [scale_values(one.clamps, (by,) * len(one.clamps)) for one in sets for by in EASED]
    tried, _ = try_rows(bench, rows)
    eased = []
    for at, one in enumerate(sets):
        enough = [one, *tried[at * len(EASED) : (at + 1) * len(EASED)]]
        eased.append([less for less in enough if less.selection >= SUFFICIENT][-1:] or [one])
    return sorted((one for (one,) in eased), key=lambda one: -one.log_odds)


def _grow(clamps: Clamps, singles: Sequence[Tried]) -> Iterable[Clamps]:
    """The clamps with one more neuron: all of the old ones kept or halved, the new one kept or halved."""
    own = {clamp.address for clamp in clamps}
    for single in singles:
        if single.clamps[0].address not in own:
            for old, new in product(FACTORS, FACTORS):
                grown = (*clamps, *single.clamps)
                scaled = scale_values(grown, (*[old] * len(clamps), new))
                yield tuple(sorted(scaled, key=lambda clamp: clamp.address))


def _best_of_each(tried: Sequence[Tried], count: int) -> list[Tried]:
    """The best values of each set of neurons, the best `count` sets."""
    best: dict[tuple[NeuronAddress, ...], Tried] = {}
    for one in sorted(tried, key=lambda one: -one.log_odds):
        best.setdefault(tuple(clamp.address for clamp in one.clamps), one)
    return list(best.values())[:count]
