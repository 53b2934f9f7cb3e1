"""Jobs in every state as rows of a store, and waiting for one that the app works on."""

import socket
import time
from pathlib import Path

import pytest

from analysis.opening.models import ModelRef
from store import (
    Job,
    JobFailure,
    JobOrder,
    Owner,
    Store,
    ask_job,
    finish_job,
    get_job,
    report_job,
    request_cancel,
    take_job,
)
from tests.workbench.jobs.job_engines import SECONDS, another_process
from workbench.jobs.engines import Engine
from workbench.jobs.jobs import Jobs
from workbench.kinds import Order, make_order
from workbench.neurons.decoding import DECODE, TOP_K

FAILURE = JobFailure("StoreFull", "No room left: free some space, then resume it.", "OSError: disk full")
NOBODY = Owner(socket.gethostname(), 2**22 + 1, 0.0)
"""A process that is gone: no system numbers one so high."""


def decode_order(model: Path, site: str = "down") -> Order:
    """Decode a model at a site, as the Neurons page asks for it."""
    return make_order(DECODE, ModelRef(str(model)), site=site, norm="none", top_k=TOP_K)


def plant_job(
    store: Store, state: str, order: Order, *, title: str = "", done: int = 1, total: int = 2
) -> Job:
    """A job in a state as people know it; another process that lives works on the active ones."""
    owner = NOBODY if state == "interrupted" else another_process()
    asked = JobOrder(order.kind, title or f"Job {state}", order.key, order.document(), 0, "blocks")
    job, is_new = ask_job(store, asked, owner)
    assert is_new
    if state == "queued":
        return job
    take_job(store, job.id, owner, replacing=owner)
    report_job(store, job.id, owner, done=done, total=total, unit="blocks", run_key=None)
    if state == "stopping":
        request_cancel(store, job.id)
    elif state in ("done", "failed", "cancelled"):
        failure = FAILURE if state == "failed" else None
        finish_job(store, job.id, owner, state, failure=failure)  # type: ignore[arg-type]
    return get_job(store, job.id)


def set_back(store: Store, job: Job, **moments: str) -> None:
    """Let a job have happened at other times."""
    with store.transaction() as db:
        db.table("jobs").update(job.id, moments)


def ended(store: Store, job_id: int) -> Job:
    """The job once nobody works on it any more."""
    end = time.monotonic() + SECONDS
    while (job := get_job(store, job_id)).active and time.monotonic() < end:
        time.sleep(0.02)
    return job


def work_with(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """Let the app's jobs be computed by an engine of the test's, which no page waits for."""
    monkeypatch.setattr("pages.shared.resources.Jobs", lambda store: Jobs(store, engine))
    monkeypatch.setattr("pages.shared.jobs.waiting.QUICK_SECONDS", 0.2)
