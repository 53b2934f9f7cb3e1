"""What kinds of work cost, and how long they take here: by earlier runs, else by the rate of reading."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from analysis.opening.models import LoadedModel
from store import Store
from workbench.durations import find_usual_seconds, measure_reading_rate

Rate = Callable[[LoadedModel], float | None]
"""Tokens per second that a model reads; None while it is at work."""


@dataclass(frozen=True)
class Work:
    """A kind of runs, and what one costs: seconds whatever the model, and tokens at its reading rate."""

    kind: str
    fixed: float
    tokens: int


LEVERS, SWEEP = Work("levers", 3.0, 15_000), Work("sweep", 1.5, 10_000)
"""A search for levers and a dose curve: so that SmolLM2 (419 tokens a second: 40 and 25 s) and demo/base
(10,784: 4.3 and 2.4 s) come out right.
"""
PRUNING = Work("prune", 0.0, 300_000)
"""Profile and pruning: 42 sets of experts on an evaluation text, and a calibration text."""
REMOVAL = Work("tars", 0.0, 30_000)
"""Removing a concept, with one prompt to aim with (demo/chat, 4,700 tokens a second: 6 s)."""


def expect_seconds(
    loaded: LoadedModel, work: Work, store: Store, rate: Rate = measure_reading_rate, **alike: Any
) -> tuple[float, bool] | None:
    """Seconds that work takes on this model, and whether they are those of earlier runs; None while the model
    is at work. alike: parameters that earlier runs must share.
    """
    seconds = find_usual_seconds(loaded, store, work.kind, **alike)
    if seconds is not None:
        return seconds, True
    tokens = rate(loaded)
    return None if tokens is None else (work.fixed + work.tokens / tokens, False)


def expect_work(loaded: LoadedModel, work: Work, store: Store, **alike: Any) -> float | None:
    """`expect_seconds` alone."""
    found = expect_seconds(loaded, work, store, **alike)
    return None if found is None else found[0]


def expect_reading(loaded: LoadedModel, tokens: int) -> float | None:
    """Seconds of reading so many tokens; None while the model is at work."""
    rate = measure_reading_rate(loaded)
    return None if rate is None else tokens / rate


def format_minutes(seconds: float) -> str:
    """`about 40 seconds`, `about 3 minutes`, `about 2.5 hours`: no more digits than an estimate has."""
    if seconds < 55:
        return f"about {max(5, 5 * round(seconds / 5))} seconds"
    minutes = max(1, round(seconds / 60))
    if minutes < 90:
        return f"about {minutes} minute{'' if minutes == 1 else 's'}"
    return f"about {seconds / 3600:.1f} hours"
