"""A page that needs a job's result: at once where it is quick, else the job is shown until it has ended."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import shown_errors, toasted_errors
from pages.shared.jobs.listing import BUSY_SECONDS, IDLE_SECONDS, WORKING, age, last_of
from pages.shared.jobs.view import show_job
from pages.shared.resources import jobs
from workbench.jobs.status import JobStatus
from workbench.kinds import Order

QUICK_SECONDS = 1.0
"""A job that is done by then is never shown on the page: nothing flickers."""

_STOPPED, _JUST_DONE = "_stopped_orders", "_order_just_done"


def finished(order: Order, why: str) -> bool:
    """Whether an order is carried out, asked by a page that found its answer missing.

    Until it is, the page says here how far it is, or why it stopped: one that failed or was cancelled goes
    on when a person says so. why: what the page needs it for, our own words, Markdown allowed.
    """
    found = last_of(order.key)
    if found is None and order.key in st.session_state.get(_STOPPED, ()):
        _watch(order, why, False)
        return False
    if found is not None and found.job.id == st.session_state.pop(_JUST_DONE, None):
        return True  # should it have stored something else than the page misses, its reader says so: no loop
    job = jobs().submit(order) if found is None or found.state == "done" else found.job
    if job.active and age(job.created_at) < QUICK_SECONDS:
        job = jobs().wait(job.id, QUICK_SECONDS - age(job.created_at))
    if job.state == "done":
        return True
    _watch(order, why, is_under_way(order))
    return False


def is_under_way(order: Order) -> bool:
    """Whether somebody works on an order, or will."""
    return _works(last_of(order.key))


def has_failed(order: Order) -> bool:
    """Whether an order failed or lost its process when it was last asked for."""
    found = last_of(order.key)
    return found is not None and found.state in ("failed", "interrupted")


def ask_for(order: Order) -> None:
    """What a button does that asks for an order; the page is shown anew."""
    with toasted_errors():
        jobs().submit(order)
        st.rerun()


def _works(found: JobStatus | None) -> bool:
    return found is not None and found.state in WORKING


def _watch(order: Order, why: str, working: bool) -> None:
    st.fragment(_show, run_every=BUSY_SECONDS if working else IDLE_SECONDS)(order, why, working)


def _show(order: Order, why: str, working: bool) -> None:
    """The job of an order. working: whether it was under way when the page was drawn; once that changes,
    the page is drawn anew."""
    with shown_errors():
        found = last_of(order.key)
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
                ask_for(order)


def _remember_stopped(order: Order) -> None:
    """What somebody cancelled and dismissed is not begun again unasked."""
    st.session_state[_STOPPED] = {*st.session_state.get(_STOPPED, ()), order.key}
