"""Storage of results: same question, same stored answer; unit by unit, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from analysis.running.prompts import read_added_tokens
from store import Run, RunSpec, Store, begin_run, find_run, get_run, list_stored_units, put_unit

Progress = Callable[[int, int], None]
"""Called with (units done, units in all)."""


@dataclass(frozen=True)
class UnitResult:
    """The result of one unit: arrays by name, and a JSON payload."""

    name: str
    arrays: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    payload: Any = None


@dataclass(frozen=True)
class DoneUnit:
    """Unit `index` of a run is computed. seconds: the time it took."""

    index: int
    result: UnitResult
    seconds: float


Units = Callable[[Sequence[int]], Iterable[DoneUnit]]
"""Computes the units with these indices, in any order, and yields each as it finishes."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run; cached when every unit had been stored before. seconds: of this call."""

    run: Run
    cached: bool
    seconds: float


def run_spec(
    loaded: LoadedModel,
    kind: str,
    version: str,
    parameters: Mapping[str, Any],
    *,
    units: int,
    seed: int | None = None,
) -> RunSpec:
    """The question a run answers, with everything of the model that changes the answer.

    Of weights that are dequantised while they are read, how they are stored is a parameter `weights`. Where
    the tokenizer has ids without a token, or appends tokens to a text, so that earlier versions of Headlamp
    answered otherwise, the key says so.
    """
    packed = {"weights": loaded.weights_format} if loaded.weights_format else {}
    return RunSpec(
        kind=kind,
        method_version=version,
        model_fingerprint=loaded.fingerprint,
        model_name=loaded.ref.name,
        dtype=loaded.dtype,
        device=loaded.ref.device,
        parameters=dict(parameters) | packed | _list_oddities(loaded),
        seed=seed,
        units=units,
    )


def _list_oddities(loaded: LoadedModel) -> dict[str, Any]:
    """What of a model's tokenizer is left out of all it is fed and says; nothing for most."""
    found = {
        "holes": len(loaded.vocabulary.holes),
        "appended": read_added_tokens(loaded.tokenizer)[1],
    }
    return {name: value for name, value in found.items() if value}


def run_missing_units(
    store: Store,
    spec: RunSpec,
    compute: Units,
    progress: Progress = lambda done, total: None,
) -> FinishedRun:
    """Compute the missing units and store each as it finishes, so that a killed run resumes.

    A finished run is only read, so a read-only database suffices.
    """
    started = time.perf_counter()
    run = find_run(store, spec.key)
    if run is not None and run.finished:
        return FinishedRun(run, True, time.perf_counter() - started)
    begin_run(store, spec, versions())
    done = list_stored_units(store, spec.key)
    missing = [index for index in range(spec.units) if index not in done]
    progress(len(done), spec.units)
    for count, unit in enumerate(compute(missing), len(done) + 1):
        put_unit(
            store,
            spec.key,
            unit.index,
            name=unit.result.name,
            arrays=unit.result.arrays,
            payload=unit.result.payload,
            seconds=unit.seconds,
        )
        progress(count, spec.units)
    return FinishedRun(get_run(store, spec.key), not missing, time.perf_counter() - started)


def compute_in_turn(compute: Callable[[int], UnitResult]) -> Units:
    """Compute units one after the other, here."""
    return lambda missing: time_units((index, compute(index)) for index in missing)


def time_units(results: Iterable[tuple[int, UnitResult]]) -> Iterator[DoneUnit]:
    """The results with the time each took."""
    started = time.perf_counter()
    for index, result in results:
        yield DoneUnit(index, result, time.perf_counter() - started)
        started = time.perf_counter()
