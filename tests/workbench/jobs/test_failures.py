"""What becomes of a job whose unit fails, whose disk is full or whose process is gone; how it goes on."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.errors import HeadlampError
from store import Job, JobOrder, StoreFull, ask_job, get_job, list_stored_units, put_unit, requeue_job
from tests.conftest import ROOT
from tests.patience import SECONDS
from tests.workbench.jobs.job_engines import (
    Desk,
    Gate,
    Watched,
    another_process,
    desk_in,
    failing_once,
)
from workbench.jobs.jobs import BEAT_SECONDS, Jobs, require_success
from workbench.jobs.status import read_status

FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown kind": (
        {"kind": "telepathy"},
        "'telepathy' is not a job of this version; it supports decode",
    ),
    "a model named otherwise": ({"model": {"path": "x"}}, "requested by another version of Headlamp"),
    "no parameters": ({"parameters": None}, "requested by another version of Headlamp"),
    "fewer parameters": (
        {"parameters": {"site": "up"}},
        "decode takes site, norm, top_k, not site; request it again",
    ),
}
TAKE_AND_WAIT = """
import json, signal, sys
from pathlib import Path
from store import JobOrder, ask_job, open_store, take_job
from workbench.jobs.status import this_process
store, me = open_store(Path(sys.argv[1])), this_process()
job, _ = ask_job(store, JobOrder(**json.loads(sys.argv[2])), me)
if sys.argv[3] == "running":
    take_job(store, job.id, me, replacing=me)
print(job.id, flush=True)
signal.pause()
"""


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = desk_in(tmp_path)
    yield desk
    desk.store.close()


def failed(desk: Desk, error: Exception, at: int = 2) -> tuple[Jobs, Watched, Job]:
    """Jobs, their engine, and the job that failed in a unit."""
    engine = Watched(failing_once(at, error))
    jobs = Jobs(desk.store, engine)
    job = jobs.wait(jobs.submit(desk.order()).id, SECONDS)
    assert job.state == "failed"
    assert job.failure is not None
    return jobs, engine, job


def test_a_unit_that_fails_tells_why_and_the_way_out_and_keeps_the_units_before(desk: Desk) -> None:
    error = HeadlampError("the sun is in the lens; wait for a cloud")
    error.__cause__ = OSError("too bright")
    jobs, engine, job = failed(desk, error)
    assert job.failure is not None
    assert job.failure.message == "the sun is in the lens; wait for a cloud"
    assert (job.failure.name, job.failure.cause) == ("HeadlampError", "OSError: too bright")
    assert list_stored_units(desk.store, str(job.run_key)) == {0, 1}
    assert (job.done, read_status(job).resumable) == (2, True)
    with pytest.raises(HeadlampError, match="wait for a cloud"):
        require_success(job)
    assert jobs.resume(job.id).failure is None
    assert jobs.wait(job.id, SECONDS).state == "done"
    assert engine.asked == [0, 1, 2, 2, 3]


def test_an_error_that_is_a_bug_keeps_its_traceback(desk: Desk) -> None:
    _, _, job = failed(desk, ValueError("shapes differ"))
    assert job.failure is not None
    assert job.failure.message.startswith("ValueError: shapes differ. This is a bug in Headlamp")
    assert "Resume it" in job.failure.message
    assert job.failure.cause.startswith("Traceback (most recent call last)")
    assert "job_engines.py" in job.failure.cause


def test_the_next_job_is_done_after_one_that_failed(desk: Desk) -> None:
    jobs, _, _ = failed(desk, ValueError("shapes differ"))
    assert jobs.wait(jobs.submit(desk.order(top_k=3)).id, SECONDS).state == "done"


def test_a_model_that_cannot_be_opened_fails_its_job_with_a_sentence(desk: Desk) -> None:
    lost = Desk(desk.store, replace(desk.model, name=f"{desk.model.name}-lost"))
    jobs = Jobs(desk.store)
    job = jobs.wait(jobs.submit(lost.order()).id, SECONDS)
    assert job.state == "failed"
    assert job.failure is not None
    assert f"{desk.model.name}-lost" in job.failure.message
    assert "bug" not in job.failure.message


def test_a_full_disk_fails_the_job_and_once_there_is_room_it_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Any, key: str, index: int, **rest: Any) -> bool:
        if index == 2:
            raise StoreFull("no room left; free some space or delete runs, then run again and it resumes")
        return put_unit(store, key, index, **rest)

    engine = Watched()
    jobs = Jobs(desk.store, engine)
    with monkeypatch.context() as patched:
        patched.setattr("workbench.runs.put_unit", full)
        job = jobs.wait(jobs.submit(desk.order()).id, SECONDS)
    assert (job.state, job.failure and job.failure.name) == ("failed", "StoreFull")
    assert job.failure is not None
    assert "free some space" in job.failure.message
    assert jobs.wait(jobs.resume(job.id).id, SECONDS).state == "done"
    assert engine.asked == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("what", FOREIGN)
def test_an_order_of_another_version_fails_with_a_sentence_and_the_next_job_is_done(
    desk: Desk, what: str
) -> None:
    changes, told = FOREIGN[what]
    document = desk.order().document() | changes
    asked = JobOrder("decode", "Decode", what, document, total=0, unit="blocks")
    jobs = Jobs(desk.store)
    old, _ = ask_job(desk.store, asked, jobs.owner)
    jobs.cancel(old.id)
    job = jobs.wait(jobs.resume(old.id).id, SECONDS)
    assert job.state == "failed"
    assert job.failure is not None
    assert told in job.failure.message
    assert "Traceback" not in job.failure.cause
    assert jobs.wait(jobs.submit(desk.order()).id, SECONDS).state == "done"


@pytest.fixture
def killed(desk: Desk) -> Iterator[Callable[[str], int]]:
    """killed("running"): the number of a job of a process that took it and was killed at once."""
    order = desk.order()
    asked = JobOrder(order.kind, "Decode", order.key, order.document(), total=0, unit="blocks")
    arguments = [sys.executable, "-c", TAKE_AND_WAIT, str(desk.store.path), json.dumps(vars(asked))]
    children: list[subprocess.Popen[str]] = []

    def kill(state: str) -> int:
        child = subprocess.Popen([*arguments, state], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        children.append(child)
        assert child.stdout is not None
        job = int(child.stdout.readline())
        assert read_status(get_job(desk.store, job)).state == state
        child.kill()
        return job

    yield kill
    for child in children:
        child.communicate()


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_whose_process_was_killed_is_interrupted_and_taken_over_when_asked_for_again(
    desk: Desk, killed: Callable[[str], int], state: str
) -> None:
    job = killed(state)
    interrupted = read_status(Jobs(desk.store).wait(job, SECONDS))
    assert (interrupted.state, interrupted.resumable, interrupted.rate) == ("interrupted", True, None)
    jobs = Jobs(desk.store)
    taken = jobs.submit(desk.order())
    assert (taken.id, taken.owner) == (job, jobs.owner)
    assert jobs.wait(job, SECONDS).state == "done"


def test_a_job_whose_process_was_killed_can_be_resumed(desk: Desk, killed: Callable[[str], int]) -> None:
    job = killed("running")
    jobs = Jobs(desk.store)
    assert Jobs(desk.store).wait(job, SECONDS).active
    assert jobs.resume(job).owner == jobs.owner
    assert jobs.wait(job, SECONDS).state == "done"


def test_a_job_whose_process_was_killed_can_be_cancelled(desk: Desk, killed: Callable[[str], int]) -> None:
    job = killed("running")
    jobs = Jobs(desk.store)
    jobs.wait(job, SECONDS)
    assert jobs.cancel(job).state == "cancelled"


def test_work_that_another_process_took_over_ends_here_without_a_word(desk: Desk) -> None:
    gate = Gate(at=1)
    jobs = Jobs(desk.store, Watched(gate))
    job = jobs.submit(desk.order())
    gate.wait()
    theirs = requeue_job(desk.store, job.id, another_process())
    gate.opened.wait(2 * BEAT_SECONDS)
    gate.opened.set()
    assert jobs.wait(jobs.submit(desk.order(top_k=3)).id, SECONDS).state == "done"
    assert get_job(desk.store, job.id) == theirs
