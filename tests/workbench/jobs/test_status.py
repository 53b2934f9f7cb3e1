"""How a job stands, seen from outside: state, rate, time left, and whether anybody works on it."""

import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analysis.errors import HeadlampError
from store import Job, JobOrder, Owner, Store, ask_job, open_store
from tests.workbench.jobs.job_engines import another_process
from workbench.jobs.jobs import require_success
from workbench.jobs.status import (
    CLOCK_SECONDS,
    FORGOTTEN_SECONDS,
    describe_failure,
    is_gone,
    read_status,
    this_process,
)


@pytest.fixture
def store() -> Store:
    return open_store()


def job(store: Store, **changes: Any) -> Job:
    """A job of this process, with some of what is stored of it changed."""
    order = JobOrder("decode", "Decode at up", "k", {}, total=0, unit="blocks")
    return replace(ask_job(store, order, this_process())[0], **changes)


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def test_rate_and_time_left_count_from_where_the_job_was_taken(store: Store) -> None:
    now = read_status(job(store, state="running", began_with=2, done=6, total=14, started_at=ago(8)))
    assert now.rate == pytest.approx(0.5, rel=0.05)
    assert now.seconds_left == pytest.approx(16, rel=0.05)


def test_there_is_no_rate_before_the_first_unit_nor_after_the_end(store: Store) -> None:
    waiting = {"began_with": 2, "done": 2, "total": 14, "started_at": ago(8)}
    for changes in ({"state": "queued", "total": 0}, {"state": "running"} | waiting):
        now = read_status(job(store, **changes))
        assert (now.rate, now.seconds_left) == (None, None)
    ended = read_status(job(store, **waiting | {"state": "done", "done": 14}))
    assert (ended.rate, ended.seconds_left) == (None, None)


@pytest.mark.parametrize(
    ("stored", "cancelled", "shown", "resumable"),
    [
        ("queued", False, "queued", False),
        ("running", False, "running", False),
        ("running", True, "stopping", False),
        ("done", False, "done", False),
        ("done", True, "done", False),
        ("failed", False, "failed", True),
        ("cancelled", True, "cancelled", True),
    ],
)
def test_a_job_is_shown_as_it_stands(
    store: Store, stored: str, cancelled: bool, shown: str, resumable: bool
) -> None:
    now = read_status(job(store, state=stored, cancel_requested=cancelled))
    assert (now.state, now.resumable) == (shown, resumable)


def test_a_process_that_lives_is_not_gone_and_one_that_took_its_number_is_not_it(store: Store) -> None:
    parent = another_process()
    later = replace(parent, started=parent.started + 2 * CLOCK_SECONDS)
    assert not is_gone(job(store, owner=parent))
    assert is_gone(job(store, owner=later))
    assert (
        read_status(job(store, state="running", owner=later, done=3, started_at=ago(5))).state
        == "interrupted"
    )
    assert not is_gone(job(store, owner=later, state="done"))


def test_a_job_on_another_machine_is_lost_once_it_is_silent_for_long(store: Store) -> None:
    elsewhere = Owner(f"not-{socket.gethostname()}", 1, 0.0)
    assert not is_gone(job(store, owner=elsewhere, state="running", beat_at=ago(FORGOTTEN_SECONDS / 2)))
    assert is_gone(job(store, owner=elsewhere, state="running", beat_at=ago(FORGOTTEN_SECONDS + 1)))


def test_a_failure_tells_the_whole_chain_of_our_own_errors(store: Store) -> None:
    inner, outer = OSError("disk on fire"), HeadlampError("it failed; try again")
    outer.__cause__ = inner
    inner.__cause__ = KeyError("x")
    failure = describe_failure(outer)
    assert (failure.name, failure.message) == ("HeadlampError", "it failed; try again")
    assert failure.cause == "OSError: disk on fire\nKeyError: 'x'"


def test_a_job_that_did_not_end_well_is_no_success(store: Store) -> None:
    for state in ("cancelled", "running"):
        with pytest.raises(HeadlampError, match=rf"\(Decode at up\) is {state}; its stored units are kept"):
            require_success(job(store, state=state))
