"""The probability of each generated token: measured, and read from the store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.running.generation import BASE, CHANGED, GenerationStep

ROWS = ((BASE, "base"), (CHANGED, "changed"))
"""Each row of a generation with its name in stored documents."""


@dataclass(frozen=True)
class ChosenProbability:
    """A generated token's probability in [0, 1], before any temperature.

    own: in its text. other: in the other text, as long as both read the same so far; None behind that.
    """

    own: float
    other: float | None


ChosenInBoth = tuple[tuple[ChosenProbability, ...], tuple[ChosenProbability, ...]]
"""(base, changed): one for each generated token."""


def measure_chosen(step: GenerationStep, *, together: bool) -> dict[str, list[float | None]]:
    """[own, other] for the token that each row chose at a step; rows that have ended are left out.

    together: whether both rows have read the same tokens.
    """
    found: dict[str, list[float | None]] = {}
    for row, name in ROWS:
        token = step.tokens[row]
        if token is not None:
            own, other = (
                math.exp(float(step.log_probabilities[at, token])) for at in (row, CHANGED + BASE - row)
            )
            found[name] = [own, other if together else None]
    return found


def read_chosen(stored: Mapping[str, Sequence[Sequence[float]]] | None) -> ChosenInBoth | None:
    """From a stored document; None for a pair stored before it was measured."""
    if stored is None:
        return None
    base, changed = (tuple(ChosenProbability(*pair) for pair in stored[name]) for _, name in ROWS)
    return base, changed
