"""Which jobs to show: the active ones, and those that stopped before completion."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from analysis.opening.models import ModelRef
from pages.shared.layout import shorten_model
from pages.shared.resources import get_jobs, get_store
from store import Job, forget_job, list_jobs
from workbench.jobs.status import JobStatus, read_status
from workbench.kinds import name_order_model

BUSY_SECONDS, IDLE_SECONDS = 1.0, 3.0
"""Refresh interval of job displays: while a job is active, and otherwise."""

RECENT_SECONDS = 24 * 3600.0
"""How long a stopped job is shown on every page."""

WORKING = ("queued", "running", "stopping")


def list_statuses() -> list[JobStatus]:
    """The current status of every job, newest first."""
    return [read_status(get_jobs().live(job)) for job in list_jobs(get_store())]


def list_active(found: Iterable[JobStatus]) -> list[JobStatus]:
    """The queued and running jobs, in execution order."""
    working = [one for one in found if one.state in WORKING]
    return sorted(working, key=lambda one: (one.state == "queued", one.job.id))


def list_stopped(found: Iterable[JobStatus], *, within: float = RECENT_SECONDS) -> list[JobStatus]:
    """Jobs that failed, were cancelled or lost their process, and were not requested again; newest first.

    within: how many seconds ago at most.
    """
    newest: dict[str, JobStatus] = {}
    for one in sorted(found, key=lambda one: one.job.beat_at, reverse=True):
        newest.setdefault(one.job.key, one)
    return [one for one in newest.values() if one.resumable and measure_age(one.job.beat_at) < within]


def find_last_job(key: str) -> JobStatus | None:
    """The status of an order's last job; None if it was never requested, or stopped too long ago."""
    same = [one for one in list_statuses() if one.job.key == key]
    newest = max(same, key=lambda one: one.job.beat_at, default=None)
    return None if newest is None or (newest.resumable and not list_stopped(same)) else newest


def dismiss_job(job: Job) -> None:
    """Delete an inactive job and earlier ones of the same order, but not their results."""
    if job.active:
        get_jobs().cancel(job.id)
    for other in list_jobs(get_store(), active=False):
        if other.key == job.key:
            forget_job(get_store(), other.id)


def belongs_here(job: Job, ref: ModelRef | None) -> bool:
    """Whether a job is of the open model; of any model if none is open."""
    return ref is None or name_order_model(job.order) == ref.name


def name_job_model(job: Job) -> str:
    """The short name of a job's model."""
    return shorten_model(name_order_model(job.order))


def measure_duration(found: JobStatus) -> float:
    """Seconds from a job's start to its end, or to its last heartbeat."""
    return measure_age(found.job.started_at or found.job.created_at) - measure_age(found.job.beat_at)


def measure_age(moment: str) -> float:
    """Seconds since an ISO time."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
