"""How long a job will take: from stored runs, else from a short measurement of the model here."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.layout import format_estimate
from pages.shared.resources import get_store
from workbench.durations import find_seconds_per_unit, measure_reading_rate
from workbench.expected import LEVERS, PRUNING, REMOVAL, SWEEP, Work, expect_seconds
from workbench.neurons.mapping import find_seconds_per_neuron, measure_seconds_per_neuron
from workbench.unlearning.presets import PlannedTime, plan_time
from workbench.unlearning.questions import UnlearningQuestion

_RATES, _PER_NEURON, _PLANNED = "_reading_rates", "_seconds_per_neuron", "_unlearning_planned"


def estimate_levers(loaded: LoadedModel, **alike: Any) -> str:
    """A sentence on the time of a search for levers. alike: parameters that earlier runs must share."""
    return _say(loaded, LEVERS, **alike)


def estimate_sweep(loaded: LoadedModel, **alike: Any) -> str:
    """A sentence on the time of one neuron's dose curve. alike: parameters that earlier runs must share."""
    return _say(loaded, SWEEP, **alike)


def estimate_pruning(loaded: LoadedModel) -> str:
    """A sentence on the time of profiling and pruning experts."""
    return _say(loaded, PRUNING)


def estimate_removal(loaded: LoadedModel) -> str:
    """A sentence on the time of removing a concept."""
    return _say(loaded, REMOVAL)


def estimate_evaluations(loaded: LoadedModel, count: int, tokens: int, **alike: Any) -> str:
    """A sentence on the time of `count` evaluations on a text of so many tokens.

    alike: parameters that earlier ones must share.
    """
    each = find_seconds_per_unit(loaded, get_store(), "prune", **alike)
    if each is not None:
        return f"{format_estimate(count * each)}, by earlier ones here."
    return _say_measured(loaded, count * tokens)


def estimate_reading(loaded: LoadedModel, tokens: int) -> str:
    """A sentence on the time of reading so many tokens, to be put behind others; empty while the model is at
    work, for then the reading may well have begun.
    """
    rate = _read_rate(loaded)
    return "" if rate is None else f" That takes {format_estimate(tokens / rate)} on this machine."


def plan_unlearning(loaded: LoadedModel, question: UnlearningQuestion) -> PlannedTime | None:
    """How long a question and its quick preset take, measured once per session; None while the model is at
    work. Raises SkillError and subclasses where the question cannot work.
    """
    known: dict[object, PlannedTime] = st.session_state.setdefault(_PLANNED, {})
    key = (loaded.fingerprint, str(loaded.device), loaded.dtype, question)
    if key not in known:
        with st.spinner("Timing this model on a few of the examples …"):
            planned = plan_time(loaded, question)
        if planned is None:
            return None
        known[key] = planned
    return known[key]


def estimate_unlearning(loaded: LoadedModel, question: UnlearningQuestion) -> str:
    """A sentence on the time of forgetting a skill."""
    planned = plan_unlearning(loaded, question)
    return _NOT_KNOWN if planned is None else f"{format_estimate(planned.seconds)}{_MEASURED}"


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


def _say(loaded: LoadedModel, work: Work, **alike: Any) -> str:
    found = expect_seconds(loaded, work, get_store(), _read_rate, **alike)
    if found is None:
        return _NOT_KNOWN
    seconds, before = found
    return f"{format_estimate(seconds)}{', as it took here before.' if before else _MEASURED}"


_NOT_KNOWN = "Its time is measured once the model is no longer at work."
_MEASURED = " on this machine, by a short measurement."


def _say_measured(loaded: LoadedModel, tokens: int) -> str:
    rate = _read_rate(loaded)
    if rate is None:
        return _NOT_KNOWN
    return f"{format_estimate(tokens / rate)}{_MEASURED}"


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
