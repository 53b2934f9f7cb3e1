"""A job as people see it, and what they can do about it: the same in the sidebar, on a page and in a list."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.shared.errors import error_text, toasted_errors
from pages.shared.jobs.listing import WORKING, dismiss, model_of
from pages.shared.layout import duration
from pages.shared.resources import jobs
from pages.shared.tokens import plain
from workbench.jobs.status import JobStatus


def show_job(found: JobStatus, place: str) -> None:
    """How far a job is or why it stopped, and its buttons. place: tells them from those shown elsewhere."""
    with st.container(border=True):
        st.markdown(f"**{plain(found.job.title)}**  \n{plain(model_of(found.job))}")
        if found.state in WORKING:
            st.progress(share(found), progress_text(found))
        else:
            _show_end(found)
        with st.container(horizontal=True):
            _buttons(found, place)


def share(found: JobStatus) -> float:
    """How much is done, from 0 to 1; 0 where nobody knows how much it will be."""
    return min(found.job.done / found.job.total, 1.0) if found.job.total else 0.0


def progress_text(found: JobStatus) -> str:
    """Markdown: what it is doing, how far it is, how fast, and how long it will take."""
    if found.state == "queued":
        return "Waits for its turn"
    if found.state == "stopping":
        return f"Stopping · {counted(found)}"
    if not found.job.total:
        return "Opening the model"
    told = [counted(found)]
    if found.rate is not None and found.seconds_left is not None:
        told += [_rate(found.rate, found.job.unit), f"{duration(found.seconds_left)} left"]
    return " · ".join(told)


def counted(found: JobStatus) -> str:
    """`3 of 24 blocks`, as Markdown."""
    job = found.job
    return f"{job.done:,} of {job.total:,} {plain(job.unit)}" if job.total else "nothing stored yet"


def _rate(rate: float, unit: str) -> str:
    if rate >= 1:
        return f"{rate:,.1f} {plain(unit)} per second"
    return f"{60 * rate:,.1f} {plain(unit)} per minute"


def _show_end(found: JobStatus) -> None:
    """What came of a job that has ended, why, and what to do."""
    if found.state == "failed" and found.job.failure is not None:
        failure = found.job.failure
        st.markdown(f":red[:material/error:] {error_text(failure.name, failure.message)}")
        if failure.cause:
            with st.expander("Details"):
                st.code(failure.cause, language=None, wrap_lines=True)
    elif found.state == "done":
        st.caption(f"Done: {counted(found)}")
    else:
        st.caption(
            f"{_WHY[found.state]} {counted(found)}; what is stored stays, and **Resume** goes on there."
        )


_WHY = {
    "failed": "Failed at",
    "cancelled": "Cancelled at",
    "interrupted": "Interrupted, since the process that worked on it ended, at",
}


def _buttons(found: JobStatus, place: str) -> None:
    job = found.job
    if found.state in WORKING:
        stopping = found.state == "stopping"
        _button(
            "Cancel", "stop", f"{place}_cancel_{job.id}", lambda: jobs().cancel(job.id), disabled=stopping
        )
        return
    if found.resumable:
        _button("Resume", "play_arrow", f"{place}_resume_{job.id}", lambda: jobs().resume(job.id))
    _button("Dismiss", "close", f"{place}_dismiss_{job.id}", lambda: dismiss(job))


def _button(label: str, icon: str, key: str, action: Callable[[], object], *, disabled: bool = False) -> None:
    """A button that acts and shows the whole page anew: what it changed may stand anywhere on it."""
    if st.button(label, icon=f":material/{icon}:", key=key, type="tertiary", disabled=disabled):
        with toasted_errors():
            action()
            st.rerun()
