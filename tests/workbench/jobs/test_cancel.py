"""Cancelling a job: it ends within the unit under way, from any process, and is resumed where it was."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from store import Job, Store, list_stored_units, open_store, request_cancel
from tests.patience import SECONDS
from tests.workbench.jobs.job_engines import LAYERS, Desk, Gate, Watched, desk_in
from workbench.jobs.engines import InThread
from workbench.jobs.jobs import Jobs
from workbench.jobs.status import read_status
from workbench.kinds import Order
from workbench.runs import DoneUnit


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = desk_in(tmp_path)
    yield desk
    desk.store.close()


def after_cancel(jobs: Jobs, job: Job, cancel: Callable[[int], Job]) -> Job:
    """The job after it was cancelled."""
    cancel(job.id)
    ended = jobs.wait(job.id, SECONDS)
    assert ended.state == "cancelled"
    return ended


def test_a_job_is_cancelled_in_the_middle_of_a_unit_and_keeps_the_units_before(desk: Desk) -> None:
    gate = Gate(at=2)
    jobs = Jobs(desk.store, Watched(gate))
    job = jobs.submit(desk.order())
    gate.wait()
    ended = after_cancel(jobs, job, jobs.cancel)
    assert (gate.stopped, ended.done, ended.total) == (True, 2, LAYERS)
    assert list_stored_units(desk.store, str(ended.run_key)) == {0, 1}
    assert read_status(ended).resumable


def test_another_process_cancels_a_job_through_the_store_alone(desk: Desk) -> None:
    gate = Gate(at=1)
    jobs, elsewhere = Jobs(desk.store, Watched(gate)), open_store(desk.store.path)
    job = jobs.submit(desk.order())
    gate.wait()
    after_cancel(jobs, job, lambda job_id: request_cancel(elsewhere, job_id))
    assert gate.stopped


def test_a_running_job_that_was_asked_to_stop_is_stopping(desk: Desk) -> None:
    gate = Gate(at=1, pulses=False)
    jobs = Jobs(desk.store, Watched(gate))
    job = jobs.submit(desk.order())
    gate.wait()
    assert read_status(jobs.cancel(job.id)).state == "stopping"
    gate.opened.set()
    assert jobs.wait(job.id, SECONDS).state == "cancelled"


def test_a_job_that_hangs_is_given_up_and_the_next_one_is_done_once_it_comes_back(desk: Desk) -> None:
    gate = Gate(at=1, pulses=False)
    jobs = Jobs(desk.store, Watched(gate))
    hanging, next_one = jobs.submit(desk.order()), jobs.submit(desk.order(top_k=3))
    gate.wait()
    ended = after_cancel(jobs, hanging, jobs.cancel)
    assert jobs.wait(next_one.id, 0).state == "queued"
    gate.opened.set()
    assert jobs.wait(next_one.id, SECONDS).state == "done"
    assert list_stored_units(desk.store, str(ended.run_key)) == {0}
    assert jobs.wait(jobs.resume(hanging.id).id, SECONDS).state == "done"


def test_a_job_that_was_given_up_and_resumed_before_it_came_back_is_done_once(desk: Desk) -> None:
    gate = Gate(at=1, pulses=False)
    engine = Watched(gate)
    jobs = Jobs(desk.store, engine)
    job = jobs.submit(desk.order())
    gate.wait()
    after_cancel(jobs, job, jobs.cancel)
    assert jobs.resume(job.id).state == "queued"
    gate.opened.set()
    assert jobs.wait(job.id, SECONDS).state == "done"
    assert engine.asked == [0, 1, 1, 2, 3]


def test_a_queued_job_is_cancelled_at_once_and_never_begun(desk: Desk) -> None:
    gate = Gate(at=0)
    engine = Watched(gate)
    jobs = Jobs(desk.store, engine)
    first, second = jobs.submit(desk.order()), jobs.submit(desk.order(top_k=3))
    gate.wait()
    assert jobs.cancel(second.id).state == "cancelled"
    gate.opened.set()
    assert jobs.wait(first.id, SECONDS).state == "done"
    third = jobs.submit(desk.order(top_k=2))
    assert jobs.wait(third.id, SECONDS).state == "done"
    assert engine.asked == [0, 1, 2, 3] * 2


def test_a_resumed_job_computes_only_the_units_that_are_missing(desk: Desk) -> None:
    gate = Gate(at=2)
    engine = Watched(gate)
    jobs = Jobs(desk.store, engine)
    job = jobs.submit(desk.order())
    gate.wait()
    after_cancel(jobs, job, jobs.cancel)
    engine.asked.clear()
    gate.opened.set()
    again = jobs.wait(jobs.resume(job.id).id, SECONDS)
    assert (again.id, again.state, again.began_with) == (job.id, "done", 2)
    assert engine.asked == [2, 3]


def test_cancelling_what_is_done_changes_nothing(desk: Desk) -> None:
    jobs = Jobs(desk.store)
    job = jobs.wait(jobs.submit(desk.order()).id, SECONDS)
    assert jobs.cancel(job.id) == job


class StopsAtATile:
    """Waits in the decoding of unit 1, between two of its tiles, until it is cancelled."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def map(
        self, loaded: LoadedModel, store: Store, order: Order, units: Sequence[int], pulse: Pulse
    ) -> Iterator[DoneUnit]:
        """See Engine."""
        for index in units:

            def watched(done: int, total: int, index: int = index) -> None:
                if (index, done) == (1, 3):
                    assert total == 14
                    self._gate(1, pulse)

            yield from InThread().map(loaded, store, order, [index], watched)


def test_decoding_can_be_cancelled_between_two_tiles(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.neurons.vocabulary_scan.NEURON_TILE", 4)
    gate = Gate(at=1)
    jobs = Jobs(desk.store, StopsAtATile(gate))
    job = jobs.submit(desk.order())
    gate.wait()
    ended = after_cancel(jobs, job, jobs.cancel)
    assert gate.stopped
    assert list_stored_units(desk.store, str(ended.run_key)) == {0}
