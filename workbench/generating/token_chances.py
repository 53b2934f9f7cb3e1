"""The probability of each generated token: measured, and read from the store."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.running.generation import BASE, CHANGED, GenerationStep


@dataclass(frozen=True)
class ChosenProbability:
    """A generated token's probability in [0, 1], before any temperature.

    own: in its text. other: in the other text, as long as both read the same so far; None behind that.
    """

    own: float
    other: float | None


ChosenInBoth = tuple[tuple[ChosenProbability, ...], tuple[ChosenProbability, ...]]
"""(base, changed): one for each generated token."""


@dataclass(frozen=True)
class ChosenByRow:
    """The same as stored: (own, other) for each generated token."""

    base: tuple[tuple[float, float | None], ...] = ()
    changed: tuple[tuple[float, float | None], ...] = ()

    @property
    def in_both(self) -> ChosenInBoth:
        """The same with names."""
        base, changed = (tuple(ChosenProbability(*pair) for pair in row) for row in (self.base, self.changed))
        return base, changed


def add_chosen(so_far: ChosenByRow | None, step: GenerationStep, *, together: bool) -> ChosenByRow:
    """With the token that each row chose at a step; a row that has ended stays.

    together: whether both rows have read the same tokens.
    """
    rows = so_far or ChosenByRow()
    base, changed = (
        row if step.tokens[at] is None else (*row, _measure(step, at, together))
        for at, row in ((BASE, rows.base), (CHANGED, rows.changed))
    )
    return ChosenByRow(base, changed)


def _measure(step: GenerationStep, row: int, together: bool) -> tuple[float, float | None]:
    token = step.tokens[row]
    own, other = (math.exp(float(step.log_probabilities[at, token])) for at in (row, CHANGED + BASE - row))
    return own, other if together else None
