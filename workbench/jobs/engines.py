"""Engines compute units: beside the loaded model, or in a pool of processes.

An engine computes units and yields each as it finishes; one writer, the job, stores them. A new engine
only implements `Engine`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Protocol

import torch

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.pulse import Pulse
from store import Store, open_store
from workbench.experts.profiles import EXPERTS
from workbench.experts.pruning import PRUNE
from workbench.kinds import Kind, Order, Stopped
from workbench.levers.levers import LEVERS
from workbench.levers.sweeps import SWEEP
from workbench.models import open_model
from workbench.neurons.decoding import DECODE
from workbench.neurons.profiles import PROFILE
from workbench.runs import DoneUnit, time_units
from workbench.skills.key_space import KEY_SPACE
from workbench.unlearning.concepts.tars import TARS
from workbench.unlearning.unlearning import UNLEARN

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (DECODE, PROFILE, EXPERTS, PRUNE, UNLEARN, TARS, KEY_SPACE, SWEEP, LEVERS)
}
"""Every kind of job by its name."""


def find_kind(order: Order) -> Kind:
    """The kind of an order. HeadlampError for an unknown kind or other parameters."""
    if order.kind not in KINDS:
        raise HeadlampError(f"{order.kind!r} is not a job of this version; it supports {', '.join(KINDS)}")
    kind = KINDS[order.kind]
    if not kind.takes(order.parameters):
        raise HeadlampError(
            f"this job was requested by another version of Headlamp: {kind.name} takes "
            f"{', '.join(kind.parameters) or 'nothing'}, not {', '.join(order.parameters) or 'nothing'}; "
            "request it again"
        )
    return kind


def check_order(loaded: LoadedModel, order: Order) -> None:
    """Refuse an order before it is requested, for all that can be known before it is measured.

    For pages beside the button, and for commands. Raises HeadlampError.
    """
    kind = find_kind(order)
    kind.check(loaded, order.parameters)
    kind.spec(loaded, order.parameters)


class Engine(Protocol):
    """Computes the units of an order."""

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """Compute units and yield each as it finishes, in any order. Ends with Stopped soon after `pulse`
        raises it; units yielded by then are complete.
        """


class InThread:
    """Computes in the calling thread with the loaded model."""

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        return time_units(find_kind(order).compute(loaded, order.parameters, units, pulse))


LOOKS_PER_SECOND = 5
"""How often a pool checks for cancellation."""


@dataclass(frozen=True)
class InProcesses:
    """Computes in `workers` processes, each with its own copy of the model and as many threads as this one:
    the kernels are the same, so stored arrays are byte-identical to InThread's.
    """

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise HeadlampError(f"{self.workers} workers: choose at least 1")

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine. HeadlampError if a worker dies."""
        shares = [list(units)] if find_kind(order).together else [[unit] for unit in units]
        context = multiprocessing.get_context("spawn")
        stop = context.Event()
        model = _WorkerModel(order.model, loaded.fingerprint, store.path, torch.get_num_threads())
        pool = ProcessPoolExecutor(
            min(self.workers, max(len(shares), 1)), context, initializer=_begin, initargs=(model, stop)
        )
        try:
            waiting = {pool.submit(_compute, order, share) for share in shares}
            yield from _as_they_come(waiting, pulse)
        except BrokenProcessPool as error:
            raise HeadlampError(
                "a worker process died, most likely because memory ran out: each worker holds a copy of the "
                f"model. Resume with fewer than {self.workers} workers; stored units are kept"
            ) from error
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


def _as_they_come(waiting: set[Future[list[DoneUnit]]], pulse: Pulse) -> Iterator[DoneUnit]:
    while waiting:
        pulse(0, 0)
        done, waiting = wait(waiting, timeout=1 / LOOKS_PER_SECOND, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()


@dataclass(frozen=True)
class _WorkerModel:
    """Opens the model in a worker, or refuses if it changed."""

    ref: ModelRef
    fingerprint: str
    database: Path
    threads: int


_worker: dict[str, Any] = {}
"""This worker process's model and stop flag, from `_begin`."""


def _begin(model: _WorkerModel, stop: Event) -> None:
    torch.set_num_threads(model.threads)
    _worker.update(model=model, stop=stop)


def _compute(order: Order, units: Sequence[int]) -> list[DoneUnit]:
    stop: Event = _worker["stop"]

    def pulse(done: int, total: int) -> None:
        if stop.is_set():
            raise Stopped

    pulse(0, 0)
    return list(time_units(find_kind(order).compute(_load(), order.parameters, units, pulse)))


def _load() -> LoadedModel:
    """The model, opened by this process's first unit and held until the process ends."""
    if "loaded" not in _worker:
        wanted: _WorkerModel = _worker["model"]
        loaded = ExitStack().enter_context(open_model(wanted.ref, open_store(wanted.database)))
        if loaded.fingerprint != wanted.fingerprint:
            raise HeadlampError(f"{wanted.ref.name} was changed during the job; request the job again")
        _worker["loaded"] = loaded
    return _worker["loaded"]  # type: ignore[no-any-return]


ENGINES: Mapping[str, Callable[[int], Engine]] = {
    "local": lambda workers: InThread(),
    "processes": InProcesses,
}
"""Name → constructor, given a number of workers."""
