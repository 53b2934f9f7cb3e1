"""Which jobs a person is shown: those under way, and those that stopped before their end."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from pages.shared.layout import short
from pages.shared.resources import jobs, store
from store import Job, forget_job, list_jobs
from workbench.jobs.status import JobStatus, status

BUSY_SECONDS, IDLE_SECONDS = 1.0, 3.0
"""How often what is shown of jobs is brought up to date: while one is under way, and otherwise."""

RECENT_SECONDS = 24 * 3600.0
"""For how long a job that stopped before its end is shown on every page."""

WORKING = ("queued", "running", "stopping")


def statuses() -> list[JobStatus]:
    """Every job as it stands at this moment, newest first."""
    return [status(jobs().live(job)) for job in list_jobs(store())]


def under_way(found: Iterable[JobStatus]) -> list[JobStatus]:
    """Those that somebody works on or will, in the order in which they are done."""
    working = [one for one in found if one.state in WORKING]
    return sorted(working, key=lambda one: (one.state == "queued", one.job.id))


def stopped(found: Iterable[JobStatus], *, within: float = RECENT_SECONDS) -> list[JobStatus]:
    """Those that failed, were cancelled or lost their process, and were not asked again since; newest first.

    within: how many seconds ago at most.
    """
    newest: dict[str, JobStatus] = {}
    for one in sorted(found, key=lambda one: one.job.beat_at, reverse=True):
        newest.setdefault(one.job.key, one)
    return [one for one in newest.values() if one.resumable and age(one.job.beat_at) < within]


def last_of(key: str) -> JobStatus | None:
    """How an order stands that was asked before; None where it was not, or stopped too long ago to matter."""
    same = [one for one in statuses() if one.job.key == key]
    newest = max(same, key=lambda one: one.job.beat_at, default=None)
    return None if newest is None or (newest.resumable and not stopped(same)) else newest


def dismiss(job: Job) -> None:
    """Forget a job that nobody works on and those of the same order before it, but not what they stored."""
    if job.active:
        jobs().cancel(job.id)
    for other in list_jobs(store(), active=False):
        if other.key == job.key:
            forget_job(store(), other.id)


def model_of(job: Job) -> str:
    """The name of the model a job works on, of a folder its last part."""
    model = job.order.get("model")
    return short(str(model.get("name", ""))) if isinstance(model, dict) else ""


def took(found: JobStatus) -> float:
    """Seconds from its beginning to its end, or to its last sign of life."""
    return age(found.job.started_at or found.job.created_at) - age(found.job.beat_at)


def age(moment: str) -> float:
    """Seconds since an ISO time."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
