"""Waiting for a job's result: at once if it is quick, else the page shows the job until it ends."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import show_errors, toast_errors
from pages.shared.jobs.listing import BUSY_SECONDS, IDLE_SECONDS, WORKING, find_last_job, measure_age
from pages.shared.jobs.view import show_job
from pages.shared.resources import get_jobs
from workbench.jobs.status import JobStatus
from workbench.kinds import Order

QUICK_SECONDS = 1.0
"""A job that finishes within this time is not shown, so nothing flickers."""

_STOPPED, _JUST_DONE = "_stopped_orders", "_order_just_done"


def ensure_done(order: Order, why: str) -> bool:
    """Whether an order is done, for a page whose answer is missing.

    Until then the page shows its progress, or why it stopped: a failed or cancelled job resumes on request.
    why: what the page needs it for, trusted Markdown.
    """
    found = find_last_job(order.key)
    if found is None and order.key in st.session_state.get(_STOPPED, ()):
        _watch(order, why, False)
        return False
    if found is not None and found.job.id == st.session_state.pop(_JUST_DONE, None):
        return True  # if it stored something else than the page misses, the reader reports that: no loop
    job = get_jobs().submit(order) if found is None or found.state == "done" else found.job
    if job.active and measure_age(job.created_at) < QUICK_SECONDS:
        job = get_jobs().wait(job.id, QUICK_SECONDS - measure_age(job.created_at))
    if job.state == "done":
        return True
    _watch(order, why, is_under_way(order))
    return False


def is_under_way(order: Order) -> bool:
    """Whether an order is queued or running."""
    return _works(find_last_job(order.key))


def has_failed(order: Order) -> bool:
    """Whether an order's last job failed or lost its process."""
    found = find_last_job(order.key)
    return found is not None and found.state in ("failed", "interrupted")


def was_cancelled(order: Order) -> bool:
    """Whether an order's last job was cancelled."""
    found = find_last_job(order.key)
    return found is not None and found.state == "cancelled"


def request_order(order: Order) -> None:
    """Request an order (for buttons) and redraw the page."""
    with toast_errors():
        get_jobs().submit(order)
        st.rerun()


def _works(found: JobStatus | None) -> bool:
    return found is not None and found.state in WORKING


def _watch(order: Order, why: str, working: bool) -> None:
    st.fragment(_show, run_every=BUSY_SECONDS if working else IDLE_SECONDS)(order, why, working)


def _show(order: Order, why: str, working: bool) -> None:
    """Show an order's job. working: whether it was active when the page was drawn; once that changes, the
    page is redrawn.
    """
    with show_errors():
        found = find_last_job(order.key)
        if _works(found) != working or (found is not None and found.state == "done"):
            if found is not None and found.state == "done":
                st.session_state[_JUST_DONE] = found.job.id
            st.rerun()
        st.markdown(why)
        if found is not None:
            show_job(found, "page")
        if not working:
            _remember_stopped(order)
            if found is None and st.button("Start again", icon=":material/play_arrow:", key="page_again"):
                request_order(order)


def _remember_stopped(order: Order) -> None:
    """Remember cancelled and dismissed jobs, which are not restarted automatically."""
    st.session_state[_STOPPED] = {*st.session_state.get(_STOPPED, ()), order.key}
