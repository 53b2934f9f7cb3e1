"""Status of a job, seen from any process: whether its process lives, its rate, why it failed."""

from __future__ import annotations

import socket
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Literal

import psutil

from analysis.errors import HeadlampError
from store import Job, JobFailure, Owner, StoreError

State = Literal["queued", "running", "stopping", "done", "failed", "cancelled", "interrupted"]
FORGOTTEN_SECONDS = 60.0
"""How long a job on another machine may give no heartbeat before it counts as lost."""
CLOCK_SECONDS = 2.0
"""Tolerance between two readings of a process's start time."""


@cache
def this_process() -> Owner:
    """This process as the owner of jobs."""
    process = psutil.Process()
    return Owner(socket.gethostname(), process.pid, process.create_time())


def is_gone(job: Job) -> bool:
    """Whether an active job's process has ended."""
    if not job.active or job.owner == this_process():
        return False
    if job.owner.host != socket.gethostname():
        return _age(job.beat_at) > FORGOTTEN_SECONDS
    try:
        process = psutil.Process(job.owner.pid)
        another = abs(process.create_time() - job.owner.started) > CLOCK_SECONDS
        return bool(another or process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True)
class JobStatus:
    """A job as shown to users. rate: units per second since it was last taken; both None before the first."""

    job: Job
    state: State
    rate: float | None
    seconds_left: float | None

    @property
    def resumable(self) -> bool:
        """Whether it can be resumed."""
        return self.state in ("failed", "cancelled", "interrupted")


def read_status(job: Job) -> JobStatus:
    """A job's current status."""
    state: State = job.state
    if is_gone(job):
        state = "interrupted"
    elif job.state == "running" and job.cancel_requested:
        state = "stopping"
    made = job.done - job.began_with
    seconds = _age(job.started_at) if job.started_at else 0.0
    if state != "running" or made <= 0 or seconds <= 0:
        return JobStatus(job, state, None, None)
    rate = made / seconds
    return JobStatus(job, state, rate, (job.total - job.done) / rate)


def describe_failure(error: BaseException) -> JobFailure:
    """What is stored of an error: ours contain what to do, others are bugs and keep their traceback."""
    if isinstance(error, HeadlampError | StoreError):
        causes = [f"{type(e).__name__}: {e}" for e in _causes(error)]
        return JobFailure(type(error).__name__, str(error), "\n".join(causes))
    return JobFailure(
        type(error).__name__,
        f"{type(error).__name__}: {error}. This is a bug in Headlamp, or the machine ran out of resources; "
        "stored units are kept. Resume it, and report the details below if it happens again.",
        "".join(traceback.format_exception(error)),
    )


def _causes(error: BaseException) -> list[BaseException]:
    cause = error.__cause__
    return [] if cause is None else [cause, *_causes(cause)]


def _age(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
