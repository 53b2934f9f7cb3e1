"""Jobs: requested work, its process, progress and outcome.

    job, new = ask_job(store, order, me)
    if new and take_job(store, job.id, me, replacing=me):
        report_job(store, job.id, me, done=1, total=5, unit="blocks", run_key=run.key)
        finish_job(store, job.id, me, "done")

Only a job's owner changes it; a former owner gets JobTaken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from store.database import Store
from store.documents import Json, check_json, clean_text, now, write_json
from store.errors import JobActive, JobNotFound, JobTaken, UnstorableValue
from store.reserve import delete_with_room
from store.row_decoding import ReadableRows, decode_row, read_readable

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
"""A queued or running job is active; the other states are final until it is queued again."""


@dataclass(frozen=True)
class JobOrder:
    """A request. key: a hash of everything that identifies the order; order: all that is needed to repeat it,
    strict JSON; total: how many of `unit` it takes, 0 if unknown.

    Raises UnstorableValue for an order that is not strict JSON or a total below 0.
    """

    kind: str
    title: str
    key: str
    order: Mapping[str, Json]
    total: int
    unit: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", check_json(dict(self.order), "order"))
        _check_counts(0, self.total)


@dataclass(frozen=True)
class Owner:
    """The process that runs a job; started: its creation time in seconds, since pids are reused."""

    host: str
    pid: int
    started: float


@dataclass(frozen=True)
class JobFailure:
    """name: the error's class; message: a sentence with what to do; cause: its chain or traceback, or ""."""

    name: str
    message: str
    cause: str


@dataclass(frozen=True)
class Job:
    """A job as stored. Times are ISO-8601 UTC; beat_at: the last heartbeat; done, total: in `unit`, total 0
    if unknown; began_with: `done` when it was last taken, from which the rate is measured.
    """

    id: int
    key: str
    kind: str
    title: str
    order: dict[str, Any]
    run_key: str | None
    state: JobState
    done: int
    total: int
    unit: str
    began_with: int
    cancel_requested: bool
    failure: JobFailure | None
    owner: Owner
    created_at: str
    started_at: str | None
    finished_at: str | None
    beat_at: str

    @property
    def active(self) -> bool:
        """Whether it is queued or running."""
        return self.state in ("queued", "running")


def ask_job(store: Store, order: JobOrder, owner: Owner) -> tuple[Job, bool]:
    """The active job with `order.key` and False; if there is none, a new queued one and True."""
    with store.transaction() as db:
        there = _active_with(store, order.key)
        if there is not None:
            return there, False
        moment = now()
        row: dict[str, Any] = {
            "key": order.key,
            "kind": order.kind,
            "title": clean_text(order.title),
            "unit": order.unit,
        }
        row |= {"order": write_json(order.order), "total": order.total, "state": "queued"}
        row |= {"created_at": moment, "beat_at": moment} | _owner_columns(owner)
        db.table("jobs").insert(row)
        return _job(store.rows(f"{_SELECT} WHERE id = last_insert_rowid()")[0]), True


def take_job(store: Store, job_id: int, owner: Owner, *, replacing: Owner) -> Job | None:
    """Run the job under `owner`, if it is active and still `replacing`'s; None if another process was faster.

    A cancel request stays.
    """
    with store.transaction():
        job = _find(store, job_id)
        if job is None or not job.active or job.owner != replacing:
            return None
        moment, mine = now(), _owner_columns(owner)
        return _update(
            store, job_id, state="running", began_with=job.done, started_at=moment, beat_at=moment, **mine
        )


def requeue_job(store: Store, job_id: int, owner: Owner) -> Job:
    """Queue a job again under `owner`, clearing its failure and any cancel request.

    Where another active job has the same key, that one is returned and nothing changes. The caller
    ensures that no process works on it: it is finished, or its owner is gone. JobNotFound.
    """
    with store.transaction():
        job = get_job(store, job_id)
        there = _active_with(store, job.key)
        if there is not None and there.id != job_id:
            return there
        cleared = {"failure": None, "cancel_requested": 0, "started_at": None, "finished_at": None}
        return _update(store, job_id, state="queued", beat_at=now(), **cleared, **_owner_columns(owner))


def report_job(
    store: Store, job_id: int, owner: Owner, *, done: int, total: int, unit: str, run_key: str | None
) -> Job:
    """Store the job's progress, as a heartbeat; a `run_key` of None keeps the current one.

    JobTaken: it no longer runs under `owner`.
    """
    _check_counts(done, total)
    with store.transaction():
        job = _mine(store, job_id, owner)
        progress = {"done": done, "total": total, "unit": unit, "run_key": run_key or job.run_key}
        return _update(store, job_id, beat_at=now(), began_with=min(done, job.began_with), **progress)


def finish_job(
    store: Store,
    job_id: int,
    owner: Owner,
    state: Literal["done", "failed", "cancelled"],
    *,
    failure: JobFailure | None = None,
) -> Job:
    """End the job, with `failure` if it failed. JobTaken: it no longer runs under `owner`."""
    told = None if failure is None else write_json({k: clean_text(v) for k, v in vars(failure).items()})
    with store.transaction():
        _mine(store, job_id, owner)
        return _update(store, job_id, failure=told, **_end(state))


def request_cancel(store: Store, job_id: int) -> Job:
    """Cancel a queued job at once; ask a running one to stop; a finished one stays unchanged. JobNotFound."""
    with store.transaction():
        job = get_job(store, job_id)
        if job.state == "running":
            return _update(store, job_id, cancel_requested=1)
        return _update(store, job_id, **_end("cancelled")) if job.active else job


def abandon_job(store: Store, job_id: int) -> Job:
    """Cancel an active job of any owner; a finished one stays unchanged. JobNotFound.

    For an owner that is gone or does not react; if it reports later, it gets JobTaken.
    """
    with store.transaction():
        job = get_job(store, job_id)
        return _update(store, job_id, **_end("cancelled")) if job.active else job


def get_job(store: Store, job_id: int) -> Job:
    """The job with this number; JobNotFound."""
    job = _find(store, job_id)
    if job is None:
        raise JobNotFound(f"no job {job_id} in {store.path}: it was deleted; see the list of jobs")
    return job


def list_jobs(store: Store, *, active: bool | None = None, limit: int = 200) -> ReadableRows[Job]:
    """Jobs, newest first, at most `limit`; only those that are active, or only those that are not.

    Rows that cannot be read are left out, and named in `unreadable`.
    """
    where = {None: "1", True: _ACTIVE, False: f"({_ACTIVE}) IS NOT 1"}[active]
    return read_readable(
        "jobs", store.rows(f"{_SELECT} WHERE {where} ORDER BY id DESC LIMIT ?", (limit,)), _job
    )


def forget_job(store: Store, job_id: int) -> None:
    """Delete a finished job, not its run; works on a full disk. JobNotFound, JobActive."""

    def delete() -> None:
        with store.transaction() as db:
            rows = store.rows("SELECT state FROM jobs WHERE id = ?", (job_id,))
            if not rows:
                get_job(store, job_id)  # raises JobNotFound
            if rows[0]["state"] in ("queued", "running"):
                raise JobActive(f"job {job_id} is still queued or running: cancel it first")
            db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    delete_with_room(store, delete)


_SELECT = "SELECT * FROM jobs"
_ACTIVE = "state IN ('queued', 'running')"
_OWNER = "owner_"


def _check_counts(done: int, total: int) -> None:
    if done < 0 or total < 0:
        raise UnstorableValue(f"{done} of {total}; pass counts of 0 or more (total 0: not known yet)")


def _owner_columns(owner: Owner) -> dict[str, Any]:
    return {_OWNER + name: value for name, value in vars(owner).items()}


def _end(state: JobState) -> dict[str, Any]:
    moment = now()
    return {"state": state, "finished_at": moment, "beat_at": moment}


def _find(store: Store, job_id: int) -> Job | None:
    rows = store.rows(f"{_SELECT} WHERE id = ?", (job_id,))
    return _job(rows[0]) if rows else None


def _active_with(store: Store, key: str) -> Job | None:
    rows = store.rows(f"{_SELECT} WHERE key = ? AND {_ACTIVE}", (key,))
    return _job(rows[0]) if rows else None


def _mine(store: Store, job_id: int, owner: Owner) -> Job:
    job = _find(store, job_id)
    if job is None:
        raise JobTaken(f"job {job_id} was cancelled and deleted: stop working on it; stored units stay")
    if job.state != "running" or job.owner != owner:
        raise JobTaken(
            f"job {job_id} is {job.state} under process {job.owner.pid} on {job.owner.host}, no longer "
            "yours: stop working on it; stored units stay"
        )
    return job


def _update(store: Store, job_id: int, **columns: Any) -> Job:
    store.db.table("jobs").update(job_id, columns)
    return get_job(store, job_id)


def _job(row: Mapping[str, Any]) -> Job:
    found = decode_row("jobs", row)
    failure = None if found["failure"] is None else JobFailure(**found["failure"])
    owner = Owner(**{column.name: found.pop(_OWNER + column.name) for column in fields(Owner)})
    return Job(**(found | {"failure": failure, "owner": owner}))
