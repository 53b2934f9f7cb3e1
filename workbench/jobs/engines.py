"""Where units are computed: beside the loaded model, or in a pool of processes.

An engine maps units and hands each out as it comes; one writer, the job, stores them. Another engine needs
the one method of `Engine` and nothing else.
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
from workbench.models import opened
from workbench.neurons.decoding import DECODE
from workbench.neurons.profiles import PROFILE
from workbench.runs import DoneUnit, timed
from workbench.skills.key_space import KEY_SPACE
from workbench.unlearning.tars import TARS
from workbench.unlearning.unlearning import UNLEARN

KINDS: Mapping[str, Kind] = {
    kind.name: kind for kind in (DECODE, PROFILE, EXPERTS, PRUNE, UNLEARN, TARS, KEY_SPACE)
}
"""Every kind of long work by its name."""


def kind_of(order: Order) -> Kind:
    """The kind of an order. HeadlampError for one that this version does not know, or asks otherwise."""
    if order.kind not in KINDS:
        raise HeadlampError(f"{order.kind!r} is no job of this version; it knows {', '.join(KINDS)}")
    kind = KINDS[order.kind]
    if set(order.parameters) != set(kind.parameters):
        raise HeadlampError(
            f"this job was asked for by another version of Headlamp: {kind.name} takes "
            f"{', '.join(kind.parameters) or 'nothing'}, not {', '.join(order.parameters) or 'nothing'}; "
            "ask for it again"
        )
    return kind


class Engine(Protocol):
    """Maps the units of an order."""

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """Compute units, each handed out as it comes, in any order. Ends with Stopped soon after `pulse`
        raises it; what was handed out by then is whole."""


class InThread:
    """Computes in the calling thread with the model that is in memory already."""

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        return timed(kind_of(order).compute(loaded, order.parameters, units, pulse))


LOOKS_PER_SECOND = 5
"""How often a pool is asked whether somebody cancelled."""


@dataclass(frozen=True)
class InProcesses:
    """Computes in `workers` processes, each with its own copy of the model and as many threads as this one:
    the same kernels run, so that stored arrays are byte for byte those of InThread."""

    workers: int

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise HeadlampError(f"{self.workers} workers: choose at least 1")

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine. HeadlampError where a worker dies."""
        shares = [list(units)] if kind_of(order).together else [[unit] for unit in units]
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
                f"model. Resume with fewer than {self.workers} workers; what was stored is kept"
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
    """What a worker opens: the same model, or it refuses."""

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
    return list(timed(kind_of(order).compute(_loaded(), order.parameters, units, pulse)))


def _loaded() -> LoadedModel:
    """The model, opened by the first unit that this process gets and held until the process ends."""
    if "loaded" not in _worker:
        wanted: _WorkerModel = _worker["model"]
        loaded = ExitStack().enter_context(opened(wanted.ref, open_store(wanted.database)))
        if loaded.fingerprint != wanted.fingerprint:
            raise HeadlampError(
                f"{wanted.ref.name} was changed while it was worked on; ask for the job again"
            )
        _worker["loaded"] = loaded
    return _worker["loaded"]  # type: ignore[no-any-return]


ENGINES: Mapping[str, Callable[[int], Engine]] = {
    "local": lambda workers: InThread(),
    "processes": InProcesses,
}
"""Name → how to make it for a number of workers."""
