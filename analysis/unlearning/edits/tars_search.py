"""The fewest reversed vectors that remove a concept: each is tried, and kept if it does its share.

The plain order by cosine would reverse every vector above the one that matters: on SmolLM2 the head row of
Oslo comes 41st, behind vectors whose reversal spoils other text. So each is tried alone first, and of those
that reach the goal within the bounds the one that lowers P most is the answer: the first by cosine may do it
in the wordings it was aimed with, and in no other. Where none does, they are tried on top of each other, the
strongest first, and kept where P falls by half their share of the way; those not needed are given back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.reading.neutral import neutral_windows
from analysis.unlearning.edits.head_states import (
    compare_states,
    read_concept_probability,
    read_states,
    take_neurons,
)
from analysis.unlearning.edits.reversals import Reversal

GOAL = 0.01
"""P(concept) on the aiming prompts at which it counts as removed."""
MOST_KL = 0.01
"""Largest median KL (nats) on neutral text, prose and chat each."""
MOST_CHANGED = 0.1
"""Largest share of the texts that are to stay in which another token becomes the likeliest."""
SHARE = 0.5
"""Part of its share of the way, in log-odds, that a vector has to bring."""
_LENGTH, _SCORED = 32, 16
"""Tokens of a neutral window that are read, and how many of the last ones are compared."""

Scored = tuple[Sequence[int], int]
"""Token ids, and how many of the last positions are compared."""


@dataclass(frozen=True, eq=False)
class TarsSearch:
    """Vectors chosen. probability: mean P(concept) on the aiming prompts under them, before: without them.

    without_rows: the same with the edits of neurons alone. kl: the larger median of prose and chat, nats.
    changed: share of the texts that are to stay whose likeliest tokens do not. tried: how many vectors were,
    alone. reached: whether all bounds are kept.
    """

    edits: tuple[Reversal, ...]
    before: float
    probability: float
    without_rows: float
    kl: float
    changed: float
    tried: int
    reached: bool


@dataclass(eq=False)
class _Trials:
    """Readings under sets of edits, on top of earlier ones. Hidden states of equal neurons are read once."""

    loaded: LoadedModel
    prompts: Sequence[Sequence[int]]
    tokens: Sequence[int]
    earlier: tuple[Reversal, ...]
    staying: Sequence[Scored]
    windows: list[tuple[int, ...]] = field(default_factory=list)
    _kept: dict[str, tuple[tuple[Reversal, ...], list[Tensor]]] = field(default_factory=dict)

    def read_probability(self, edits: Sequence[Reversal]) -> float:
        """Mean P(concept) on the aiming prompts."""
        every = (*self.earlier, *edits)
        states = torch.stack(self._states("aim", list(self.prompts), [1] * len(self.prompts), every))
        return float(read_concept_probability(self.loaded, states[:, 0], self.tokens, every).mean())

    def measure_cost(self, edits: Sequence[Reversal]) -> tuple[float, float]:
        """(the larger of the median KLs of prose and chat, over windows, of the mean over positions; share of
        the texts that are to stay in which another token becomes the likeliest).
        """
        if not self.windows:
            self.windows = [tuple(window[:_LENGTH]) for window in neutral_windows(self.loaded)]
        texts = [*self.windows, *(ids for ids, _ in self.staying)]
        counts = [min(_SCORED, len(window)) for window in self.windows] + [n for _, n in self.staying]
        every = (*self.earlier, *edits)
        base = torch.cat(self._states("base", texts, counts, self.earlier))
        changed = torch.cat(self._states("neutral", texts, counts, every))
        found = compare_states(self.loaded, base, changed, every, self.earlier)
        kls = torch.stack([part.mean() for part in found.kl.split(counts)])[: len(self.windows)]
        half = len(kls) // 2
        other = [bool(part.any()) for part in (found.top != found.changed_top).split(counts)][len(kls) :]
        share = sum(other) / len(other) if other else 0.0
        return max(float(kls[:half].median()), float(kls[half:].median())), share

    def fits(self, edits: Sequence[Reversal], max_kl: float) -> bool:
        """Whether the cost of these edits is within its bounds."""
        kl, share = self.measure_cost(edits)
        return kl <= max_kl and share <= MOST_CHANGED

    def _states(
        self,
        name: str,
        sequences: Sequence[Sequence[int]],
        counts: Sequence[int],
        edits: Sequence[Reversal],
    ) -> list[Tensor]:
        neurons = take_neurons(edits)
        known, states = self._kept.get(name, ((), []))
        if not states or [id(edit) for edit in known] != [id(edit) for edit in neurons]:
            states = read_states(self.loaded, sequences, counts, neurons)
            self._kept[name] = neurons, states
        return states


def search_edits(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[int],
    candidates: Sequence[Reversal],
    *,
    edits: int,
    goal: float = GOAL,
    max_kl: float = MOST_KL,
    earlier: Sequence[Reversal] = (),
    staying: Sequence[Scored] = (),
    pulse: Pulse = lambda done, total: None,
) -> TarsSearch:
    """Choose at most `edits` of the candidates; prompts: token ids up to where the concept is due.

    staying: texts whose likeliest tokens are to stay as they are.
    Where none does its share within the bound, the one that lowers P most is the answer, not reached.
    Raises SkillError for bounds that cannot be kept.
    """
    check_bounds(edits, goal, max_kl)
    trials = _Trials(loaded, prompts, tokens, tuple(earlier), staying)
    before = p = trials.read_probability(())
    alone = _try_alone(trials, candidates if p > goal else (), pulse)
    kept = _take_one(trials, alone, goal, max_kl, pulse)
    if not kept:
        least = SHARE * (_log_odds(p) - _log_odds(goal)) / edits
        strong = [one for lowered, one in alone if _log_odds(p) - _log_odds(lowered) >= least]
        kept = _collect(trials, strong, edits, goal, max_kl, pulse)
    if not kept and alone:
        kept = [alone[0][1]]
    kept = sorted(drop_unneeded(trials, kept, goal, max_kl), key=lambda edit: -abs(edit.cosine))
    p, (kl, changed) = trials.read_probability(kept), trials.measure_cost(kept)
    return TarsSearch(
        edits=tuple(kept),
        before=before,
        probability=p,
        without_rows=trials.read_probability(take_neurons(kept)),
        kl=kl,
        tried=len(alone),
        changed=changed,
        reached=p <= goal and kl <= max_kl and changed <= MOST_CHANGED,
    )


def _try_alone(trials: _Trials, candidates: Sequence[Reversal], pulse: Pulse) -> list[tuple[float, Reversal]]:
    """Each candidate with P(concept) under it alone, the one that lowers it most first."""
    alone: list[tuple[float, Reversal]] = []
    for candidate in candidates:
        pulse(0, 0)
        alone.append((trials.read_probability((candidate,)), candidate))
    return sorted(alone, key=lambda one: one[0])


def _take_one(
    trials: _Trials, alone: Sequence[tuple[float, Reversal]], goal: float, max_kl: float, pulse: Pulse
) -> list[Reversal]:
    """The strongest candidate that reaches the goal alone and within the bounds; none where none does."""
    for lowered, candidate in alone:
        if lowered > goal:
            break
        pulse(0, 0)
        if trials.fits((candidate,), max_kl):
            return [candidate]
    return []


def _collect(
    trials: _Trials,
    candidates: Sequence[Reversal],
    edits: int,
    goal: float,
    max_kl: float,
    pulse: Pulse,
) -> list[Reversal]:
    """Candidates on top of each other: those that bring half their share of the way, within the bound."""
    kept: list[Reversal] = []
    p = trials.read_probability(())
    for candidate in candidates:
        if p <= goal or len(kept) == edits:
            break
        pulse(0, 0)
        lowered = trials.read_probability((*kept, candidate))
        needed = SHARE * (_log_odds(p) - _log_odds(goal)) / (edits - len(kept))
        if _log_odds(p) - _log_odds(lowered) >= needed and trials.fits((*kept, candidate), max_kl):
            kept.append(candidate)
            p = lowered
    return kept


def check_bounds(edits: int, goal: float, max_kl: float) -> None:
    """Refuse bounds that no removal keeps. Raises SkillError."""
    if edits < 1:
        raise SkillError(f"{edits} edits: choose at least 1")
    if not 0 < goal < 1:
        raise SkillError(f"a goal of {goal:g}: choose a probability above 0 and below 1, such as {GOAL:g}")
    if not 0 < max_kl < math.inf:
        raise SkillError(f"a largest KL of {max_kl:g} nats: choose a number above 0, such as {MOST_KL:g}")


def drop_unneeded(trials: _Trials, kept: list[Reversal], goal: float, max_kl: float) -> list[Reversal]:
    """The edits without those whose absence leaves P at the goal and the KL within its bound."""
    for edit in list(kept):
        rest = [one for one in kept if one is not edit]
        if rest and trials.read_probability(rest) <= goal and trials.fits(rest, max_kl):
            kept = rest
    return kept


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-12), 1 - 1e-12)
    return math.log(p / (1 - p))
