"""A bench whose log-odds are a formula of the clamps, and neutral text that gives any KL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.intervening.clamps import Scope
from analysis.levers.bench import BenchReading, WordBench, WordPrompt
from analysis.levers.grids import hold
from analysis.levers.neutral_effects import NeutralEffect, NeutralText
from analysis.levers.readings import Clamps
from analysis.levers.results import Lever
from analysis.levers.search import Tried

LogOdds = Callable[[Clamps], float]


class PretendBench:
    """Reads each row's log-odds from a formula. rows: all that were read, in order."""

    def __init__(self, log_odds: LogOdds, loaded: Any = None) -> None:
        self.scope, self.loaded, self.prompts = Scope("last"), loaded, (WordPrompt((1, 2, 3), ((5,),)),)
        self.rows: list[Clamps] = []
        self._log_odds = log_odds

    def read(self, rows: Sequence[Clamps]) -> BenchReading:
        """See WordBench."""
        self.rows += rows
        odds = torch.tensor([self._log_odds(row) for row in rows], dtype=torch.float64)
        return BenchReading(
            log_odds=odds,
            probability=odds.sigmoid()[None],
            kl=torch.zeros_like(odds),
            top=(odds > 0)[None],
            reached=torch.ones_like(odds),
        )

    @property
    def bench(self) -> WordBench:
        """As what the search takes."""
        return cast(WordBench, self)


class PretendNeutral:
    """Neutral text on which clamps have the KL that a formula gives."""

    def __init__(self, kl: LogOdds) -> None:
        self._kl = kl
        self.rows: list[Clamps] = []

    def measure(self, rows: Sequence[Clamps]) -> NeutralEffect:
        """See NeutralText."""
        self.rows += rows
        found = torch.tensor([self._kl(row) for row in rows], dtype=torch.float64)
        return NeutralEffect(found, found, found)

    @property
    def text(self) -> NeutralText:
        """As what the search takes."""
        return cast(NeutralText, self)


def neurons(count: int, block: str = "L0") -> list[NeuronAddress]:
    """The first neurons of a block."""
    return [parse_address(f"{block}.N{number}") for number in range(count)]


def tried(log_odds: float, *values: float, first: int = 0) -> Tried:
    """Clamps of as many neurons as values, with their log-odds."""
    clamps = tuple(hold(parse_address(f"L0.N{first + at}"), value) for at, value in enumerate(values))
    return Tried(clamps, log_odds, float(torch.tensor(log_odds).sigmoid()))


def lever(
    log_odds: float,
    held_out: float = 0.95,
    *,
    size: int = 1,
    selection: float | None = None,
    first: int = 0,
    **changed: Any,
) -> Lever:
    """A lever of so many neurons, steerable unless something is changed."""
    known: dict[str, Any] = {
        "clamps": tuple(hold(parse_address(f"L3.N{first + at}"), 1.5) for at in range(size)),
        "log_odds": log_odds,
        "selection": held_out if selection is None else selection,
        "held_out": held_out,
        "base": 0.05,
        "per_prompt": (held_out, held_out),
        "top1": 1.0,
        "specificity": 0.1,
        "neutral_kl": 0.02,
        "collapse": False,
        "controls": (0.06, 0.1, 0.04),
    }
    return Lever(**known | changed)


def value_of(clamps: Clamps, neuron: int) -> float:
    """The value at which a neuron of these clamps is held; 0 if it is not."""
    return next((one.value or 0.0 for one in clamps if one.address.neuron == neuron), 0.0)


def no_texts(*texts: Sequence[int]) -> Callable[..., list[Any]]:
    """In place of continue_rows: the given texts, in order, as often as asked."""
    from analysis.levers.collapse import Continuation

    return lambda loaded, ids, rows: [
        Continuation(tuple(texts[min(at, len(texts) - 1)])) for at in range(len(rows))
    ]
