"""The job panel in every page's sidebar: active jobs, and those that stopped before completion."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import show_errors
from pages.shared.jobs.listing import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    list_active,
    list_statuses,
    list_stopped,
    measure_age,
    measure_duration,
)
from pages.shared.jobs.view import show_job
from pages.shared.layout import format_duration
from pages.shared.tokens import escape_text
from workbench.jobs.status import JobStatus

MOST = 5
"""Stopped jobs shown; the others are on the Runs page."""

SLOW_SECONDS, JUST_NOW_SECONDS = 3.0, 60.0
"""Smallest duration of a job whose completion is announced, and for how long."""


def show_job_panel() -> None:
    """The panel, updated automatically. Takes no space if there is nothing to show."""
    with show_errors():
        busy = bool(list_active(list_statuses()))
        st.fragment(_panel, run_every=BUSY_SECONDS if busy else IDLE_SECONDS)()


def _panel() -> None:
    with show_errors():
        found = list_statuses()
        working, ended = list_active(found), list_stopped(found)[:MOST]
        for one in [*working, *ended]:
            show_job(one, "panel")
        for one in _just_done(found):
            st.caption(
                f":material/check: {escape_text(one.job.title)} is done, in "
                f"{format_duration(measure_duration(one))}"
            )


def _just_done(found: list[JobStatus]) -> list[JobStatus]:
    """The last longer job, right after its completion."""
    done = [one for one in found if one.state == "done" and measure_age(one.job.beat_at) < JUST_NOW_SECONDS]
    return [one for one in done if measure_duration(one) >= SLOW_SECONDS][:1]
