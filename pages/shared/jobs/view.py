"""A job's display and buttons, in the sidebar, on a page and in a list."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.shared.errors import format_error, toast_errors
from pages.shared.jobs.listing import WORKING, dismiss_job, name_job_model
from pages.shared.jobs.places import place_on_page
from pages.shared.layout import format_duration
from pages.shared.resources import get_jobs
from pages.shared.tokens import escape_text
from workbench.jobs.status import JobStatus

PANEL = "panel"


def show_job(found: JobStatus, place: str) -> None:
    """A job's progress or why it stopped, and its buttons. place: makes its widget keys unique; PANEL is the
    sidebar's, which leaves out what any other place shows.
    """
    if place != PANEL:
        place_on_page(found.job.key)
    with st.container(border=True):
        st.markdown(f"**{escape_text(found.job.title)}**  \n{escape_text(name_job_model(found.job))}")
        if found.state in WORKING:
            st.progress(measure_progress(found), describe_progress(found))
        else:
            _show_end(found)
        with st.container(horizontal=True):
            _buttons(found, place)


def measure_progress(found: JobStatus) -> float:
    """The completed share, from 0 to 1; 0 if the total is unknown."""
    return min(found.job.done / found.job.total, 1.0) if found.job.total else 0.0


def describe_progress(found: JobStatus) -> str:
    """Markdown: what the job is doing, its progress, rate and time left."""
    if found.state == "queued":
        return "Queued"
    if found.state == "stopping":
        return f"Stopping · {describe_count(found)}"
    if not found.job.total:
        return "Opening the model"
    told = [describe_count(found)]
    if found.rate is not None and found.seconds_left is not None:
        told += [_rate(found.rate, found.job.unit), f"{format_duration(found.seconds_left)} left"]
    return " · ".join(told)


def describe_count(found: JobStatus) -> str:
    """`3 of 24 blocks`, as Markdown."""
    job = found.job
    return f"{job.done:,} of {job.total:,} {escape_text(job.unit)}" if job.total else "nothing stored yet"


def _rate(rate: float, unit: str) -> str:
    if rate >= 1:
        return f"{rate:,.1f} {escape_text(unit)} per second"
    return f"{60 * rate:,.1f} {escape_text(unit)} per minute"


def _show_end(found: JobStatus) -> None:
    """How a job ended, why, and what to do."""
    if found.state == "failed" and found.job.failure is not None:
        failure = found.job.failure
        st.markdown(f":red[:material/error:] {format_error(failure.name, failure.message)}")
        if failure.cause:
            with st.expander("Details"):
                st.code(failure.cause, language=None, wrap_lines=True)
    elif found.state == "done":
        st.caption(f"Done: {describe_count(found)}")
    else:
        st.caption(
            f"{_WHY[found.state]} {describe_count(found)}; stored units stay, and **Resume** continues from "
            "there."
        )


_WHY = {
    "failed": "Failed at",
    "cancelled": "Cancelled at",
    "interrupted": "Interrupted, because its process ended, at",
}


def _buttons(found: JobStatus, place: str) -> None:
    job = found.job
    if found.state in WORKING:
        stopping = found.state == "stopping"
        _button(
            "Cancel", "stop", f"{place}_cancel_{job.id}", lambda: get_jobs().cancel(job.id), disabled=stopping
        )
        return
    if found.resumable:
        _button("Resume", "play_arrow", f"{place}_resume_{job.id}", lambda: get_jobs().resume(job.id))
    _button("Dismiss", "close", f"{place}_dismiss_{job.id}", lambda: dismiss_job(job))


def _button(label: str, icon: str, key: str, action: Callable[[], object], *, disabled: bool = False) -> None:
    """A button that acts and redraws the whole page."""
    if st.button(label, icon=f":material/{icon}:", key=key, type="tertiary", disabled=disabled):
        with toast_errors():
            action()
            st.rerun()
