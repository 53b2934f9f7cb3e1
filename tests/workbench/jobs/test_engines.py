"""Engines: the same bytes wherever units are computed, and a pool that can be stopped or lose a worker."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from store import Store, list_stored_units
from tests.patience import SECONDS
from tests.workbench.jobs.job_engines import Desk, Watched, desk_in, stored_bytes
from workbench.jobs.engines import ENGINES, Engine, InProcesses, InThread, find_kind
from workbench.jobs.jobs import Jobs
from workbench.kinds import Kind, Order
from workbench.neurons.decoding import DECODE
from workbench.neurons.profiles import PROFILE
from workbench.runs import DoneUnit


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = desk_in(tmp_path)
    yield desk
    desk.store.close()


@pytest.fixture
def quick_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that begin with the libraries in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.jobs.engines"])
    monkeypatch.setattr("workbench.jobs.engines.multiprocessing.get_context", lambda method: context)


def stored_with(engine: Engine, desk: Desk, kind: Kind) -> list[tuple[object, ...]]:
    """What a job stores under an engine."""
    jobs = Jobs(desk.store, engine)
    job = jobs.wait(jobs.submit(desk.order(kind)).id, SECONDS)
    assert job.state == "done", job.failure
    return stored_bytes(desk.store, job.run_key)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DECODE, PROFILE], ids=lambda kind: kind.name)
def test_a_pool_stores_byte_for_byte_what_a_thread_stores(
    desk: Desk, tmp_path: Path, kind: Kind, quick_pool: None
) -> None:
    other = Desk(desk_in(tmp_path, "other").store, desk.model)
    assert stored_with(InProcesses(2), other, kind) == stored_with(InThread(), desk, kind)


@pytest.mark.slow
def test_a_worker_that_reads_the_libraries_itself_works_too(desk: Desk) -> None:
    assert len(stored_with(InProcesses(1), desk, DECODE)) == 4 * 13


def test_engines_are_made_by_their_names() -> None:
    assert [ENGINES["local"](3), ENGINES["processes"](3)][1] == InProcesses(3)
    assert isinstance(ENGINES["local"](3), InThread)
    with pytest.raises(HeadlampError, match="0 workers: choose at least 1"):
        InProcesses(0)


def test_a_kind_that_nobody_knows_is_told_with_those_that_are_known(desk: Desk) -> None:
    with pytest.raises(HeadlampError, match="'x' is not a job of this version; it supports decode, profile"):
        find_kind(Order("x", desk.model, {}))


class LosesAWorker:
    """A pool of one worker, which is killed once its first unit is handed out."""

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        pool = InProcesses(1).map(loaded, store, order, units, pulse)
        yield next(pool)
        [worker] = multiprocessing.active_children()
        worker.kill()
        yield from pool


@pytest.fixture
def slow_desk(tmp_path: Path) -> Iterator[Desk]:
    """Each of its 8 units takes so long that a pool is still busy when its first one is handed out."""
    desk = desk_in(tmp_path, layers=8, intermediate_size=20_000)
    yield desk
    desk.store.close()


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_the_job_with_a_word_about_memory_and_it_can_go_on(
    slow_desk: Desk, quick_pool: None
) -> None:
    jobs = Jobs(slow_desk.store, LosesAWorker())
    job = jobs.wait(jobs.submit(slow_desk.order()).id, SECONDS)
    assert job.failure is not None
    assert "a worker process died, most likely because memory ran out" in job.failure.message
    assert "Resume with fewer than 1 workers; stored units are kept" in job.failure.message
    kept = list_stored_units(slow_desk.store, str(job.run_key))
    assert 1 <= len(kept) < 8
    engine = Watched()
    again = Jobs(slow_desk.store, engine)
    assert again.wait(again.resume(job.id).id, SECONDS).state == "done"
    assert engine.asked == sorted(set(range(8)) - kept)


@pytest.mark.slow
def test_a_pool_that_is_cancelled_ends_early_and_its_workers_with_it(
    slow_desk: Desk, quick_pool: None
) -> None:
    jobs = Jobs(slow_desk.store, InProcesses(2))
    job = jobs.submit(slow_desk.order())
    while jobs.wait(job.id, 0).done == 0:
        time.sleep(0.01)
    jobs.cancel(job.id)
    ended = jobs.wait(job.id, SECONDS)
    deadline = time.monotonic() + SECONDS
    while (left := multiprocessing.active_children()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended.state == "cancelled"
    assert 1 <= ended.done < 8
    assert left == []
