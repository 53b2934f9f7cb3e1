"""Jobs: one at a time per order, worked on by one owner, and the states they go through."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from store import (
    Job,
    JobActive,
    JobFailure,
    JobNotFound,
    JobOrder,
    JobTaken,
    Owner,
    RunSpec,
    Store,
    UnstorableValue,
    abandon_job,
    ask_job,
    begin_run,
    delete_run,
    finish_job,
    forget_job,
    get_job,
    list_jobs,
    report_job,
    request_cancel,
    requeue_job,
    take_job,
)

ME = Owner("desk", 4711, 1_767_225_600.123456)
OTHER = Owner("desk", 4711, 1_767_225_601.5)
ORDER = JobOrder("decode", "Decode demo/base", "k1", {"layers": [0, 1], "α": None}, total=5, unit="blocks")


def asked(store: Store, **changes: Any) -> Job:
    return ask_job(store, replace(ORDER, **changes), ME)[0]


def running(store: Store, **changes: Any) -> Job:
    job = take_job(store, asked(store, **changes).id, ME, replacing=ME)
    assert job is not None
    return job


def report(store: Store, job: Job, owner: Owner = ME, **changes: Any) -> Job:
    given: dict[str, Any] = {"done": 1, "total": 5, "unit": "blocks", "run_key": None}
    return report_job(store, job.id, owner, **(given | changes))


def test_a_new_job_is_queued_as_it_was_ordered(store: Store) -> None:
    job, new = ask_job(store, ORDER, ME)
    assert new
    assert (job.kind, job.title, job.key, job.order) == ("decode", ORDER.title, "k1", ORDER.order)
    assert (job.state, job.active, job.done, job.total, job.unit) == ("queued", True, 0, 5, "blocks")
    assert (job.owner, job.failure, job.run_key, job.cancel_requested) == (ME, None, None, False)
    assert (job.started_at, job.finished_at, job.beat_at) == (None, None, job.created_at)
    assert get_job(store, job.id) == job


@pytest.mark.parametrize("wrong", [{"order": {"a": float("nan")}}, {"order": {"a": object()}}, {"total": -1}])
def test_an_order_that_cannot_be_stored_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UnstorableValue):
        replace(ORDER, **wrong)


def test_the_same_order_is_one_job_while_that_is_active(store: Store) -> None:
    first = asked(store)
    assert ask_job(store, ORDER, OTHER) == (first, False)
    taken = running(store)
    assert ask_job(store, ORDER, OTHER) == (taken, False)
    finish_job(store, first.id, ME, "done")
    again, new = ask_job(store, ORDER, OTHER)
    assert (new, again.owner, again.id > first.id) == (True, OTHER, True)
    assert ask_job(store, replace(ORDER, key="k2"), ME)[1]


def test_the_file_itself_refuses_a_second_active_job_with_a_key(store: Store) -> None:
    asked(store)
    finish_job(store, running(store).id, ME, "done")
    asked(store)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        store.db.execute("UPDATE jobs SET state = 'queued'")


def test_a_job_is_taken_by_one_of_many(store: Store) -> None:
    job = asked(store)
    rivals = [Owner("desk", pid, 1.0) for pid in range(8)]
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda rival: take_job(store, job.id, rival, replacing=ME), rivals))
    winners = [job for job in taken if job is not None]
    assert len(winners) == 1
    assert (winners[0].state, winners[0].owner in rivals) == ("running", True)
    assert winners[0].started_at == winners[0].beat_at is not None


def test_taking_a_running_job_measures_from_there_and_keeps_the_wish_to_cancel(store: Store) -> None:
    job = report(store, running(store), done=3)
    assert job.began_with == 0
    request_cancel(store, job.id)
    taken = take_job(store, job.id, OTHER, replacing=ME)
    assert taken is not None
    assert (taken.owner, taken.began_with, taken.done, taken.cancel_requested) == (OTHER, 3, 3, True)
    assert take_job(store, job.id, ME, replacing=ME) is None


def test_a_finished_or_forgotten_job_is_not_taken(store: Store) -> None:
    job = finish_job(store, running(store).id, ME, "done")
    assert take_job(store, job.id, OTHER, replacing=ME) is None
    forget_job(store, job.id)
    assert take_job(store, job.id, OTHER, replacing=ME) is None


def test_a_report_is_stored_and_is_a_sign_of_life(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = running(store, total=0)
    monkeypatch.setattr("store.jobs.now", lambda: "2100-01-01T00:00:00.000+00:00")
    told = report(store, job, done=2, total=7, unit="batches", run_key="r")
    assert (told.done, told.total, told.unit, told.run_key) == (2, 7, "batches", "r")
    assert told.beat_at == "2100-01-01T00:00:00.000+00:00"
    assert (told.started_at, told.finished_at) == (job.started_at, None)
    assert report(store, job, done=3).run_key == "r"
    with pytest.raises(UnstorableValue):
        report(store, job, done=-1)


def test_work_that_starts_again_from_less_is_measured_from_there(store: Store) -> None:
    job = report(store, running(store), done=4)
    taken = take_job(store, job.id, ME, replacing=ME)
    assert taken is not None
    assert taken.began_with == 4
    assert report(store, job, done=1).began_with == 1
    assert report(store, job, done=2).began_with == 1


def taken_by_another(store: Store, job: Job) -> None:
    take_job(store, job.id, OTHER, replacing=ME)


def queued_again(store: Store, job: Job) -> None:
    requeue_job(store, job.id, ME)


def abandoned(store: Store, job: Job) -> None:
    abandon_job(store, job.id)


def forgotten(store: Store, job: Job) -> None:
    forget_job(store, abandon_job(store, job.id).id)


@pytest.mark.parametrize("event", [taken_by_another, queued_again, abandoned, forgotten])
def test_who_has_lost_a_job_is_told_and_changes_nothing(
    store: Store, event: Callable[[Store, Job], None]
) -> None:
    job = running(store)
    event(store, job)
    before = list_jobs(store)
    with pytest.raises(JobTaken, match="stop working"):
        report(store, job)
    with pytest.raises(JobTaken, match="stop working"):
        finish_job(store, job.id, ME, "done")
    assert list_jobs(store) == before


def test_a_failure_is_kept_and_forgotten_when_queued_again(store: Store) -> None:
    job = report(store, running(store), done=2)
    request_cancel(store, job.id)
    failure = JobFailure("StoreFull", "No room: free some \udcff", "Traceback\n  …")
    failed = finish_job(store, job.id, ME, "failed", failure=failure)
    assert failed.failure == replace(failure, message="No room: free some \ufffd")
    assert (failed.state, failed.active, failed.finished_at) == ("failed", False, failed.beat_at)
    again = requeue_job(store, job.id, OTHER)
    assert (again.state, again.owner, again.failure, again.cancel_requested) == ("queued", OTHER, None, False)
    assert (again.done, again.started_at, again.finished_at) == (2, None, None)


def test_a_job_is_not_queued_again_beside_another_with_its_key(store: Store) -> None:
    old = finish_job(store, running(store).id, ME, "cancelled")
    new = asked(store)
    assert requeue_job(store, old.id, OTHER) == new
    assert get_job(store, old.id) == old


def test_cancelling_ends_a_queued_job_asks_a_running_one_and_leaves_a_finished_one(store: Store) -> None:
    queued = request_cancel(store, asked(store).id)
    assert (queued.state, queued.finished_at is None) == ("cancelled", False)
    asked_to = request_cancel(store, running(store).id)
    assert (asked_to.state, asked_to.cancel_requested) == ("running", True)
    assert report(store, asked_to).cancel_requested
    done = finish_job(store, asked_to.id, ME, "done")
    assert request_cancel(store, done.id) == done
    assert abandon_job(store, done.id) == done


def test_an_active_job_is_abandoned_whoever_owns_it(store: Store) -> None:
    for job in (asked(store), running(store, key="k2")):
        gone = abandon_job(store, job.id)
        assert (gone.state, gone.finished_at) == ("cancelled", gone.beat_at)


def test_jobs_are_listed_newest_first_and_by_activity(store: Store) -> None:
    jobs = [asked(store, key=f"{number}") for number in range(3)]
    request_cancel(store, jobs[1].id)
    assert [job.key for job in list_jobs(store)] == ["2", "1", "0"]
    assert [job.key for job in list_jobs(store, active=True)] == ["2", "0"]
    assert [job.key for job in list_jobs(store, active=False)] == ["1"]
    assert [job.key for job in list_jobs(store, limit=1)] == ["2"]


def test_only_a_finished_job_is_forgotten_and_its_number_is_not_used_again(store: Store) -> None:
    job = asked(store)
    with pytest.raises(JobActive, match="cancel it first"):
        forget_job(store, job.id)
    request_cancel(store, job.id)
    forget_job(store, job.id)
    assert asked(store).id > job.id
    for ask in (get_job, forget_job, request_cancel, abandon_job):
        with pytest.raises(JobNotFound, match=f"no job {job.id}"):
            ask(store, job.id)
    with pytest.raises(JobNotFound):
        requeue_job(store, job.id, ME)


def test_deleting_a_run_keeps_its_jobs(store: Store, make_spec: Callable[..., RunSpec]) -> None:
    key = begin_run(store, make_spec(), {}).key
    job = report(store, running(store), run_key=key)
    delete_run(store, key)
    assert get_job(store, job.id) == job
