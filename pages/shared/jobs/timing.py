"""How long a job will take: from stored runs, else from a short measurement of the model here."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.layout import format_estimate
from pages.shared.resources import get_store
from workbench.durations import find_seconds_per_unit, find_usual_seconds, measure_reading_rate
from workbench.neurons.mapping import find_seconds_per_neuron, measure_seconds_per_neuron

_RATES, _PER_NEURON = "_reading_rates", "_seconds_per_neuron"

LEVERS, SWEEP = (3.0, 15_000), (1.5, 10_000)
"""What a search for levers and a dose curve cost: seconds whatever the model, and tokens at its reading rate;
so that SmolLM2 (419 tokens a second: 40 and 25 s) and demo/base (10,784: 4.3 and 2.4 s) come out right.
"""
PRUNING = (0.0, 300_000)
"""Likewise of profile and pruning: 42 sets of experts on an evaluation text, and a calibration text."""
REMOVAL = (0.0, 30_000)
"""Likewise of removing a concept, with one prompt to aim with (demo/chat, 4,700 tokens a second: 6 s)."""
UNLEARN_TOKENS = 250
"""What forgetting costs, in tokens read, for each example: its seconds on demo/base times the rate."""


def estimate_levers(loaded: LoadedModel, **alike: Any) -> str:
    """A sentence on the time of a search for levers. alike: parameters that earlier runs must share."""
    return _say(loaded, "levers", *LEVERS, **alike)


def estimate_sweep(loaded: LoadedModel, **alike: Any) -> str:
    """A sentence on the time of one neuron's dose curve. alike: parameters that earlier runs must share."""
    return _say(loaded, "sweep", *SWEEP, **alike)


def estimate_pruning(loaded: LoadedModel) -> str:
    """A sentence on the time of profiling and pruning experts."""
    return _say(loaded, "prune", *PRUNING)


def estimate_removal(loaded: LoadedModel) -> str:
    """A sentence on the time of removing a concept."""
    return _say(loaded, "tars", *REMOVAL)


def estimate_evaluations(loaded: LoadedModel, count: int, tokens: int, **alike: Any) -> str:
    """A sentence on the time of `count` evaluations on a text of so many tokens.

    alike: parameters that earlier ones must share.
    """
    each = find_seconds_per_unit(loaded, get_store(), "prune", **alike)
    if each is not None:
        return f"{format_estimate(count * each)}, by earlier ones here."
    return _say_measured(loaded, 0.0, count * tokens)


def estimate_reading(loaded: LoadedModel, tokens: int) -> str:
    """A sentence on the time of reading so many tokens, to be put behind others; empty while the model is at
    work, for then the reading may well have begun.
    """
    rate = _read_rate(loaded)
    return "" if rate is None else f" That takes {format_estimate(tokens / rate)} on this machine."


def estimate_unlearning(loaded: LoadedModel, examples: int) -> str:
    """A sentence on the time of forgetting a skill. examples: of all its skills together."""
    return _say(loaded, "unlearn", 0.0, UNLEARN_TOKENS * examples)


def estimate_decoding(loaded: LoadedModel, neurons: int) -> str:
    """`≈ 3 min`: from this model's stored maps, else from a few neurons decoded once per session."""
    rate = find_seconds_per_neuron(loaded, get_store())
    if rate is None and (loaded.streamed is not None or loaded.at_hub is not None):
        return "not timed yet"
    if rate is None:
        known = st.session_state.setdefault(_PER_NEURON, {})
        key = (loaded.fingerprint, str(loaded.device), loaded.dtype)
        if key not in known:
            known[key] = measure_seconds_per_neuron(loaded, get_store())
        rate = known[key]
    return format_estimate(rate * neurons)


def _say(loaded: LoadedModel, kind: str, fixed: float, tokens: int, **alike: Any) -> str:
    seconds = find_usual_seconds(loaded, get_store(), kind, **alike)
    if seconds is not None:
        return f"{format_estimate(seconds)}, as it took here before."
    return _say_measured(loaded, fixed, tokens)


def _say_measured(loaded: LoadedModel, fixed: float, tokens: int) -> str:
    rate = _read_rate(loaded)
    if rate is None:
        return "Its time is measured once the model is no longer at work."
    return f"{format_estimate(fixed + tokens / rate)} on this machine, by a short measurement."


def _read_rate(loaded: LoadedModel) -> float | None:
    """The reading rate, measured once per session and model; None while the model is at work."""
    rates: dict[object, float] = st.session_state.setdefault(_RATES, {})
    key = (loaded.fingerprint, str(loaded.device), loaded.dtype)
    if key not in rates:
        measured = measure_reading_rate(loaded)
        if measured is None:
            return None
        rates[key] = measured
    return rates[key]
