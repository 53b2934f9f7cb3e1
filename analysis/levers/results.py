"""What a search for a word's levers found, and whether the word is steerable (METHODS §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.anatomy.addresses import NeuronAddress
from analysis.levers.neutral_effects import BOUND
from analysis.levers.readings import Clamps

HELD_OUT_ABOVE = 0.9
"""Mean P(word) on held-out prompts from which a word counts as steerable."""
CONTROLS_WITHIN = 0.3
"""How far above the base's P(word) the best control may come."""
SUFFICIENT = 0.99
"""P(word) on the selection prompts from which more neurons and larger values are not wanted."""
ANYWHERE = 0.5
"""Share of the held-out P(word) above which P(word) where another word is due counts as forcing it."""


@dataclass(frozen=True)
class Shortlisted:
    """A neuron that was tried. z: its largest z-score for the word at any site, None if no label put it on
    the list. gradient: largest change of the word's log-odds to first order, None where there is
    none. effect: mean change of log-odds at its best value, None where every value drove the model to NaN.
    routed: share of the selection prompts at whose clamped positions its expert is used; 1 outside experts.
    """

    address: NeuronAddress
    z: float | None
    gradient: float | None
    effect: float | None
    value: float
    routed: float


@dataclass(frozen=True)
class Lever:
    """Clamps that make a model say a word, measured. Probabilities are means over prompts, in [0, 1].

    log_odds, selection: on the prompts it was chosen on. held_out, per_prompt: on others; base: there without
    clamps. top1: share of these prompts whose likeliest token begins the word. specificity: where a word of
    another kind is due; None if that was not read. neutral_kl: nats per token on neutral text. collapse:
    whether its text falls into repetition, None if too short to judge. controls: held-out P(word) of each set
    of random neurons that was given the same search. reached: share of the held-out prompts in which it acts,
    below 1 where a neuron's expert is not always used.
    """

    clamps: Clamps
    log_odds: float
    selection: float
    held_out: float
    base: float
    per_prompt: tuple[float, ...]
    top1: float
    specificity: float | None
    neutral_kl: float
    collapse: bool | None
    controls: tuple[float, ...]
    reached: float = 1.0

    @property
    def largest_control(self) -> float | None:
        """P(word) of the best control on the held-out prompts; None where no control was run."""
        return max(self.controls, default=None)

    @property
    def steerable(self) -> bool:
        """Whether it makes the model say the word, random neurons do not, and other text is left alone."""
        return (
            self.held_out >= HELD_OUT_ABOVE
            and self.largest_control is not None
            and self.largest_control <= self.base + CONTROLS_WITHIN
            and self.neutral_kl <= BOUND
            and not self.collapse
        )

    @property
    def anywhere(self) -> bool:
        """Whether it raises the word, and nearly as much where a word of another kind is due."""
        raised = self.held_out > self.base + CONTROLS_WITHIN
        return raised and self.specificity is not None and self.specificity > ANYWHERE * self.held_out


def choose_best(levers: Sequence[Lever]) -> Lever | None:
    """What to take: of those with P(word) ≥ SUFFICIENT on the selection prompts the fewest neurons and, among
    these, the largest log-odds; else the largest log-odds.
    """
    enough = [one for one in levers if one.selection >= SUFFICIENT]
    fewest = min((len(one.clamps) for one in enough), default=0)
    left = [one for one in enough if len(one.clamps) == fewest] or levers
    return max(left, key=lambda one: one.log_odds, default=None)


def choose_single(levers: Sequence[Lever]) -> Lever | None:
    """The lever of one neuron with the largest log-odds on the selection prompts."""
    single = [lever for lever in levers if len(lever.clamps) == 1]
    return max(single, key=lambda lever: lever.log_odds, default=None)


@dataclass(frozen=True)
class LeverSearch:
    """The answer. levers: those that leave other text alone; the one to take first, the others by falling
    log-odds on the selection prompts.

    search_control: the best lever of a random shortlist, if one was asked for.
    refused: clamps that raised the word but were left out, best first, with the reason. base: mean P(word)
    on the held-out prompts without clamps.
    """

    levers: tuple[Lever, ...]
    search_control: Lever | None
    shortlist: tuple[Shortlisted, ...]
    refused: tuple[tuple[Clamps, str], ...]
    base: float

    @property
    def single(self) -> Lever | None:
        """The best lever of one neuron, as the selection prompts have it."""
        return choose_single(self.levers)

    @property
    def best_set(self) -> Lever | None:
        """The best lever of any size, as the selection prompts have it (`choose_best`)."""
        return choose_best(self.levers)

    @property
    def best(self) -> Lever | None:
        """The lever to take: one neuron where that suffices, else the best set."""
        single = self.single
        return single if single is not None and single.steerable else self.best_set

    def with_best_first(self) -> LeverSearch:
        """The same, the lever to take moved to the front."""
        best = self.best
        return replace(self, levers=tuple(sorted(self.levers, key=lambda lever: lever != best)))

    @property
    def steerable(self) -> bool:
        """Whether the best neuron or the best set makes the model say the word."""
        return self.best is not None and self.best.steerable
