"""The one way results are remembered: same question, same stored answer; unit by unit, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.models import LoadedModel
from analysis.recipes import versions
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
    compute: Callable[[int], UnitResult],
    progress: Progress = lambda done, total: None,
) -> Remembered:
    """Compute and store the units that are missing; each commits on its own, so a killed run resumes.

    A finished run is only read, so that it opens from a database that cannot be written.
    """
    started = time.perf_counter()
    run = find_run(store, spec.key)
    if run is not None and run.finished:
        return Remembered(run, True, time.perf_counter() - started)
    begin_run(store, spec, versions())
    done = stored_units(store, spec.key)
    missing = [index for index in range(spec.units) if index not in done]
    for index in missing:
        progress(spec.units - len(missing) + missing.index(index), spec.units)
        unit_started = time.perf_counter()
        result = compute(index)
        put_unit(
            store,
            spec.key,
            index,
            name=result.name,
            arrays=result.arrays,
            payload=result.payload,
            seconds=time.perf_counter() - unit_started,
        )
    progress(spec.units, spec.units)
    return Remembered(get_run(store, spec.key), not missing, time.perf_counter() - started)
