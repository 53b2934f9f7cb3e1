"""Background jobs: queued, shown, cancelled, resumed; stored units are never computed twice.

    jobs = Jobs(store)
    job = jobs.submit(make_order(DECODE, ref, site="up", norm="none", top_k=10))
    job = jobs.wait(job.id)          # or look at status(store, job) from anywhere, any process

One Jobs per process and store. Its thread runs one job after the other; a second thread, the heartbeat,
records progress and receives cancellations, also from other processes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from analysis.errors import HeadlampError
from store import (
    Job,
    JobFailure,
    JobNotFound,
    JobOrder,
    JobTaken,
    Owner,
    Store,
    StoreError,
    abandon_job,
    ask_job,
    finish_job,
    get_job,
    get_run,
    list_jobs,
    report_job,
    request_cancel,
    requeue_job,
    take_job,
)
from workbench.jobs.engines import KINDS, Engine, InThread, find_kind
from workbench.jobs.status import describe_failure, is_gone, this_process
from workbench.kinds import Order, Stopped, read_order, rebuild_order
from workbench.models import open_model
from workbench.runs import run_missing_units

BEAT_SECONDS = 0.5
PATIENCE_SECONDS = 1.5
"""Grace period of a cancelled job whose work does not respond (while loading a model, say); then it is
abandoned: the work ends at its next pulse, and its stored units stay."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    state: Literal["done", "failed", "cancelled"]
    failure: JobFailure | None


class Jobs:
    """The background jobs of this process on one store."""

    def __init__(self, store: Store, engine: Engine | None = None) -> None:
        self.store = store
        self.owner: Owner = this_process()
        self._engine = engine or InThread()
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._worker: threading.Thread | None = None
        self._current: _Work | None = None
        self._unwritten: dict[int, Outcome] = {}

    def submit(self, order: Order) -> Job:
        """The job that answers this order: an active one in any process, else a new one in the queue.

        A job whose process is gone is taken over.
        """
        kind = find_kind(order)
        asked = JobOrder(
            order.kind, kind.title(order.parameters), order.key, order.document(), total=0, unit=kind.unit
        )
        job, is_new = ask_job(self.store, asked, self.owner)
        if is_new:
            self._enqueue(job)
            return job
        return self.resume(job.id) if is_gone(job) else job

    def resume(self, job_id: int) -> Job:
        """Resume a job that was cancelled, failed or lost its process. An active one stays unchanged."""
        job = get_job(self.store, job_id)
        if job.active and not is_gone(job):
            return job
        job = requeue_job(self.store, job_id, self.owner)
        if job.owner == self.owner and job.state == "queued":
            self._enqueue(job)
        return job

    def resume_run(self, run_key: str) -> Job:
        """Resume a stored run, from any requester, as last requested (for example from disk).

        HeadlampError for a run that is not a job's.
        """
        run = get_run(self.store, run_key)
        last = next((job for job in list_jobs(self.store) if job.run_key == run_key), None)
        return self.submit(rebuild_order(run, KINDS) if last is None else read_order(last.order))

    def cancel(self, job_id: int) -> Job:
        """Cancel a job, in any process; its stored units stay."""
        job = request_cancel(self.store, job_id)
        if job.active and is_gone(job):
            return abandon_job(self.store, job_id)
        work = self._current
        if work is not None and work.job.id == job_id:
            work.stop.set()
        return job

    def wait(
        self,
        job_id: int,
        timeout: float | None = None,
        progress: Callable[[Job], None] = lambda job: None,
    ) -> Job:
        """Wait until the job ends, or for `timeout` seconds; returns its state."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            job = self.live(get_job(self.store, job_id))
            progress(job)
            if not job.active or is_gone(job) or (end is not None and time.monotonic() >= end):
                return job
            time.sleep(0.02 if end is not None else 0.1)

    def live(self, job: Job) -> Job:
        """The job with its current progress, if this process runs it; and with its outcome, if the store
        could not record that at its end.
        """
        if job.active and job.id in self._unwritten:
            return self._write(job, self._unwritten[job.id])
        work = self._current
        if work is None or work.job.id != job.id or job.state != "running":
            return job
        return replace(job, done=work.done, total=work.total, unit=work.unit)

    def _enqueue(self, job: Job) -> None:
        self._waiting.put(job.id)
        with self._starting:
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="jobs", daemon=True)
                self._worker.start()

    def _work(self) -> None:
        while True:
            job_id = self._waiting.get()
            with suppress(StoreError):  # cancelled, deleted, or the store is unavailable
                job = take_job(self.store, job_id, self.owner, replacing=self.owner)
                if job is not None:
                    self._begin(job)

    def _begin(self, job: Job) -> None:
        try:
            work = _Work(self.store, self.owner, job)
        except HeadlampError as error:  # requested by another version
            finish_job(self.store, job.id, self.owner, "failed", failure=describe_failure(error))
        else:
            self._do(work)

    def _do(self, work: _Work) -> None:
        self._current = work
        beat = threading.Thread(target=work.beat, name="jobs-beat", daemon=True)
        beat.start()
        try:
            self._compute(work)
        except Stopped:
            self._end(work, "cancelled")
        except BaseException as error:  # the edge of a thread: any error is recorded and shown
            self._end(work, "failed", error)
        else:
            self._end(work, "done")
        finally:
            work.ended.set()
            beat.join()
            self._current = None

    def _compute(self, work: _Work) -> None:
        order = work.order
        with open_model(order.model, self.store) as loaded:
            work.pulse(0, 0)
            spec = work.kind.spec(loaded, order.parameters)
            work.run_key = spec.key
            run_missing_units(
                self.store,
                spec,
                lambda missing: self._engine.map(loaded, self.store, order, missing, work.pulse),
                work.progress,
            )

    def _end(
        self, work: _Work, state: Literal["done", "failed", "cancelled"], error: BaseException | None = None
    ) -> None:
        work.ended.set()
        with suppress(StoreError):
            work.report()
        self._write(work.job, Outcome(state, None if error is None else describe_failure(error)))

    def _write(self, job: Job, outcome: Outcome) -> Job:
        """Record an outcome; a store that is full or busy gets it when the job is next queried."""
        self._unwritten.pop(job.id, None)
        try:
            return finish_job(self.store, job.id, self.owner, outcome.state, failure=outcome.failure)
        except (JobTaken, JobNotFound):
            return job
        except StoreError:
            self._unwritten[job.id] = outcome
            return replace(job, state=outcome.state, failure=outcome.failure)


class _Work:
    """One running job: its progress, and whether it should stop."""

    def __init__(self, store: Store, owner: Owner, job: Job) -> None:
        self.store, self.owner, self.job = store, owner, job
        self.order = read_order(job.order)
        self.kind = find_kind(self.order)
        self.done, self.total, self.unit = job.done, job.total, job.unit
        self.run_key = job.run_key
        self.stop, self.ended = threading.Event(), threading.Event()
        self.under_way = False

    def progress(self, done: int, total: int) -> None:
        """Units stored, of how many. Raises Stopped after a cancellation."""
        self.done, self.total, self.unit = done, total, self.kind.unit
        if not self.under_way:
            self.under_way = True
            self._measure_from_here()
        if self.stop.is_set() and done < total:
            raise Stopped

    def pulse(self, done: int, total: int) -> None:
        """Steps within a unit. Raises Stopped after a cancellation."""
        if self.stop.is_set():
            raise Stopped
        if self.kind.together and total:
            self.done, self.total, self.unit = done, total, self.kind.together

    def _measure_from_here(self) -> None:
        """Start measuring the rate: the model is open, and the number of stored units is known."""
        with suppress(StoreError):
            self.report()
            take_job(self.store, self.job.id, self.owner, replacing=self.owner)

    def report(self) -> Job:
        """Record the progress."""
        return report_job(
            self.store,
            self.job.id,
            self.owner,
            done=self.done,
            total=self.total,
            unit=self.unit,
            run_key=self.run_key,
        )

    def beat(self) -> None:
        """Until the work ends: record progress, receive cancellations, abandon work that hangs."""
        asked: float | None = None
        while not self.ended.wait(BEAT_SECONDS):
            try:
                cancelled = self.report().cancel_requested
            except JobTaken:
                self.stop.set()
                return
            except StoreError:
                continue  # a full disk or a busy file: the units decide whether the work can continue
            if cancelled or self.stop.is_set():
                self.stop.set()
                asked = asked or time.monotonic()
                if time.monotonic() - asked >= PATIENCE_SECONDS - BEAT_SECONDS:
                    with suppress(StoreError):
                        abandon_job(self.store, self.job.id)
                    return


def require_success(job: Job) -> Job:
    """The job, if it is done; otherwise HeadlampError with its outcome and what to do."""
    if job.state == "done":
        return job
    if job.failure is not None:
        raise HeadlampError(job.failure.message)
    raise HeadlampError(
        f"job {job.id} ({job.title}) is {job.state}; its stored units are kept: request it again to resume"
    )
