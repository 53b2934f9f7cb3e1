"""`jobs list|cancel|resume`, and how a command waits for a job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from analysis.opening.models import LoadedModel
from store import Job, RunSpec, Store, find_run, get_run, list_jobs
from workbench.cli.shared.options import AsJson, Db
from workbench.cli.shared.output import format_table, say, unreadable
from workbench.cli.shared.progress import format_seconds
from workbench.cli.shared.session import open_session, show_bar
from workbench.expected import format_minutes
from workbench.jobs.engines import Engine
from workbench.jobs.jobs import Jobs, require_success
from workbench.jobs.status import is_gone, read_status
from workbench.kinds import Order, name_order_model
from workbench.neurons.decoding import DECODE, blocks_with
from workbench.neurons.mapping import expect_decoding
from workbench.runs import FinishedRun

jobs = typer.Typer(no_args_is_help=True, help="Background jobs.")
JobId = Annotated[int, typer.Argument(metavar="JOB", help="Number of the job, as in `jobs list`.")]


@jobs.command("list")
def list_(*, db: Db = None, as_json: AsJson = False) -> None:
    """List jobs.

    Newest first: active ones, here or in another process, and how the others ended.
    """
    with open_session(db, as_json) as here:
        listed = list_jobs(here.store)
        board = [read_status(job) for job in listed]
        rows = [
            (
                str(s.job.id),
                s.job.title,
                name_order_model(s.job.order),
                s.state,
                f"{s.job.done}/{s.job.total or '?'} {s.job.unit}",
                "" if s.seconds_left is None else f"{format_seconds(s.seconds_left)} left",
            )
            for s in board
        ]
        why = [f"\n{s.job.id}: {s.job.failure.message}" for s in board if s.job.failure is not None]
        shown = format_table(("job", "what", "model", "state", "done", ""), rows)
        document = {"jobs": [_document(s.job) for s in board], "unreadable": unreadable(listed)}
        here.show(document, "\n".join([shown, *why]))


@jobs.command()
def cancel(job: JobId, *, db: Db = None, as_json: AsJson = False) -> None:
    """Cancel a job.

    In any process; its stored units are kept.
    """
    with open_session(db, as_json) as here:
        board = Jobs(here.store)
        board.cancel(job)
        ended = board.wait(job, timeout=CANCEL_SECONDS)
        here.show(_document(ended), f"job {job} is {read_status(ended).state}")


@jobs.command()
def resume(job: JobId, *, db: Db = None, as_json: AsJson = False) -> None:
    """Resume a job.

    One that failed, was cancelled or lost its process; runs here, from the first missing unit.
    """
    with open_session(db, as_json) as here:
        board = Jobs(here.store)
        ended = _follow(board, board.resume(job))
        here.show(_document(ended), f"job {job} is done; run {ended.run_key}")


CANCEL_SECONDS = 3.0
SHORTEST_SAID = 5.0
"""Seconds from which the time of a job is said before it begins."""


def answer_order(
    store: Store,
    engine: Engine,
    order: Order,
    spec: RunSpec,
    expect: Callable[[], float | None] = lambda: None,
) -> FinishedRun:
    """The run that answers an order: stored, computed now as a job, or awaited if it runs elsewhere.

    expect: the seconds that it takes, said before it begins; None where they are not known. HeadlampError if
    the job fails, saying what to do.
    """
    started = time.perf_counter()
    run = find_run(store, spec.key)
    cached = run is not None and run.finished
    if not cached:
        if (seconds := expect()) is not None and seconds >= SHORTEST_SAID:
            say(f"This takes {format_minutes(seconds)}, by what was measured of the model here.")
        board = Jobs(store, engine)
        _follow(board, board.submit(order))
    return FinishedRun(get_run(store, spec.key), cached, time.perf_counter() - started)


def answer_decoding(loaded: LoadedModel, store: Store, order: Order, engine: Engine) -> FinishedRun:
    """The map of a model, as `answer_order`."""
    neurons = sum(block.d_ff for block in blocks_with(loaded, order.parameters["site"]))
    spec = DECODE.spec(loaded, order.parameters)
    return answer_order(store, engine, order, spec, lambda: expect_decoding(loaded, store, neurons))


def follow_run(store: Store, run_key: str) -> Job:
    """Resume a stored run, and wait for its end."""
    board = Jobs(store)
    return _follow(board, board.resume_run(run_key))


def _follow(board: Jobs, job: Job) -> Job:
    """Wait for a job with a progress bar. Ctrl-C cancels a job of this process, else ends the wait."""
    if job.owner != board.owner:
        say(f"Job {job.id} is running in process {job.owner.pid} on {job.owner.host}; waiting for it")
    with show_bar(job.title.lower()) as progress:
        try:
            while job.active:
                job = board.wait(job.id, progress=lambda j: progress(j.done, j.total) if j.total else None)
                if is_gone(job):
                    job = board.resume(job.id)
        except KeyboardInterrupt:
            if job.owner == board.owner:
                board.cancel(job.id)
                board.wait(job.id, timeout=CANCEL_SECONDS)
            raise
    return require_success(job)


def _document(job: Job) -> dict[str, Any]:
    now = read_status(job)
    failure = None if job.failure is None else vars(job.failure)
    return vars(job) | {
        "state": now.state,
        "rate": now.rate,
        "seconds_left": now.seconds_left,
        "failure": failure,
        "owner": vars(job.owner),
    }
