"""Search for the values of neurons that raise a word most, and for those that leave other text alone.

METHODS §2, "Levers": a coarse grid for every neuron of a shortlist, the full grid for the best; all of it is
chosen on the selection prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.levers.bench import WordBench
from analysis.levers.collapse import collapses, continue_rows
from analysis.levers.grids import COARSE, FULL, hold
from analysis.levers.neutral_effects import BOUND, NeutralText
from analysis.levers.readings import Clamps

REFINED = 16
"""How many neurons of a shortlist get the full grid."""


@dataclass(frozen=True)
class Tried:
    """Clamps and what they did on the selection prompts: mean log-odds, and mean P(word)."""

    clamps: Clamps
    log_odds: float
    selection: float


@dataclass(frozen=True)
class NeuronSearch:
    """One neuron's values, best first. reached: share of the prompts in which it acted."""

    address: NeuronAddress
    tried: tuple[Tried, ...]
    reached: float

    @property
    def best(self) -> Tried:
        """The value with the largest mean log-odds."""
        return self.tried[0]


@dataclass(frozen=True)
class Admitted:
    """Clamps that leave other text alone. collapse: None where the texts were too short to judge."""

    tried: Tried
    neutral_kl: float
    collapse: bool | None


def search_values(bench: WordBench, neurons: Sequence[NeuronAddress], refined: int) -> list[NeuronSearch]:
    """Each neuron's values by falling log-odds, best neuron first: the coarse grid for all, the full grid for
    the best `refined`.
    """
    found = _read_grid(bench, neurons, COARSE)
    found.sort(key=lambda search: -search.best.log_odds)
    finer = _read_grid(bench, [search.address for search in found[:refined]], FULL)
    return sorted([*finer, *found[refined:]], key=lambda search: -search.best.log_odds)


def _read_grid(
    bench: WordBench, neurons: Sequence[NeuronAddress], values: Sequence[float]
) -> list[NeuronSearch]:
    if not neurons:
        return []
    rows = [(hold(neuron, value, scope=bench.scope),) for neuron in neurons for value in values]
    tried, reached = try_rows(bench, rows)
    size = len(values)
    return [
        NeuronSearch(
            neuron,
            tuple(sorted(tried[at : at + size], key=lambda one: -one.log_odds)),
            float(reached[at : at + size].max()),
        )
        for neuron, at in zip(neurons, range(0, len(rows), size), strict=True)
    ]


def try_rows(bench: WordBench, rows: Sequence[Clamps]) -> tuple[list[Tried], torch.Tensor]:
    """What each row's clamps did, in order, and (n,) the share of the prompts in which they acted."""
    reading = bench.read(rows)
    found = zip(rows, reading.log_odds.tolist(), reading.mean.tolist(), strict=True)
    return [Tried(*one) for one in found], reading.reached


class Admission:
    """Decides which clamps leave other text alone: neutral KL within BOUND, and no collapse."""

    def __init__(self, bench: WordBench, neutral: NeutralText) -> None:
        self._bench, self._neutral = bench, neutral
        self.refused: dict[Clamps, str] = {}
        self._odds: dict[Clamps, float] = {}
        self._admitted: dict[Clamps, Admitted] = {}

    def admit(self, tried: Sequence[Tried]) -> list[Admitted]:
        """Those that leave other text alone, in the given order; each is measured once."""
        new = [one for one in tried if one.clamps not in self._admitted and one.clamps not in self.refused]
        if new:
            self._odds |= {one.clamps: one.log_odds for one in new}
            kl = self._neutral.measure([one.clamps for one in new]).kl.tolist()
            within = []
            for one, size in zip(new, kl, strict=True):
                if not size <= BOUND:  # NaN too
                    self.refused[one.clamps] = f"neutral KL {size:.2g} nats, above {BOUND:g}"
                else:
                    within.append((one, size))
            self._judge(within)
        return [self._admitted[one.clamps] for one in tried if one.clamps in self._admitted]

    def list_refused(self) -> tuple[tuple[Clamps, str], ...]:
        """What was left out, with the reason, by falling log-odds."""
        return tuple(sorted(self.refused.items(), key=lambda pair: -self._odds[pair[0]]))

    def _judge(self, within: Sequence[tuple[Tried, float]]) -> None:
        """Keep those whose text on the first selection prompt does not collapse."""
        rows: list[Clamps] = [(), *(one.clamps for one, _ in within)]
        base, *texts = continue_rows(self._bench.loaded, self._bench.prompts[0].ids, rows)
        for (one, size), text in zip(within, texts, strict=True):
            collapse = collapses(text, base)
            if collapse:
                self.refused[one.clamps] = f"its text repeats itself ({text.repetition:.0%} of its 4-grams)"
            else:
                self._admitted[one.clamps] = Admitted(one, size, collapse)

    def admit_values(self, searches: Sequence[NeuronSearch], above: float) -> list[Admitted]:
        """For each neuron the value with the largest log-odds that is admitted, if it raises them above
        `above`; neurons without one are left out, and those that never acted: what they seem to raise is
        rounding.
        """
        waiting = {
            search.address: [one for one in search.tried if one.log_odds > above]
            for search in searches
            if search.reached
        }
        found: dict[NeuronAddress, Admitted] = {}
        while waiting := {address: left for address, left in waiting.items() if left}:
            round_ = [left.pop(0) for left in waiting.values()]
            for one in self.admit(round_):
                address = one.tried.clamps[0].address
                found[address] = one
                waiting.pop(address)
        return [found[search.address] for search in searches if search.address in found]
