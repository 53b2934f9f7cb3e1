"""The one way results are remembered: same question, same stored answer; unit by unit, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from store import Run, RunSpec, Store, begin_run, find_run, get_run, put_unit, stored_units

Progress = Callable[[int, int], None]
"""Called with (units done, units in all)."""


@dataclass(frozen=True)
class UnitResult:
    """What one unit leaves: arrays by name, and a JSON payload."""

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
"""Computes the units with these indices, in any order, and hands each out as it comes."""


@dataclass(frozen=True)
class Remembered:
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
    """The question a run answers, with everything of the model that changes the answer."""
    return RunSpec(
        kind=kind,
        method_version=version,
        model_fingerprint=loaded.fingerprint,
        model_name=loaded.ref.name,
        dtype=loaded.dtype,
        device=loaded.ref.device,
        parameters=dict(parameters),
        seed=seed,
        units=units,
    )


def remembered(
    store: Store,
    spec: RunSpec,
    compute: Units,
    progress: Progress = lambda done, total: None,
) -> Remembered:
    """Have the missing units computed and store each as it comes, so that a killed run resumes.

    A finished run is only read, so that it opens from a database that cannot be written.
    """
    started = time.perf_counter()
    run = find_run(store, spec.key)
    if run is not None and run.finished:
        return Remembered(run, True, time.perf_counter() - started)
    begin_run(store, spec, versions())
    done = stored_units(store, spec.key)
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
    return Remembered(get_run(store, spec.key), not missing, time.perf_counter() - started)


def one_by_one(compute: Callable[[int], UnitResult]) -> Units:
    """Units that are computed one after the other, here."""
    return lambda missing: timed((index, compute(index)) for index in missing)


def timed(results: Iterable[tuple[int, UnitResult]]) -> Iterator[DoneUnit]:
    """The results with the time that each took to come."""
    started = time.perf_counter()
    for index, result in results:
        yield DoneUnit(index, result, time.perf_counter() - started)
        started = time.perf_counter()
