"""The job panel in every page's sidebar: active jobs, and the open model's that stopped before completion."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import show_errors
from pages.shared.jobs.listing import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    belongs_here,
    list_active,
    list_statuses,
    list_stopped,
    measure_age,
    measure_duration,
)
from pages.shared.jobs.places import is_on_page
from pages.shared.jobs.view import PANEL, show_job
from pages.shared.layout import format_duration
from pages.shared.resources import read_current_ref
from pages.shared.tokens import escape_text
from workbench.jobs.status import JobStatus

MOST = 5
"""Stopped jobs shown; the others are on the Runs page."""

SLOW_SECONDS, JUST_NOW_SECONDS = 3.0, 60.0
"""Smallest duration of a job whose completion is announced, and for how long."""


def show_job_panel() -> None:
    """The panel, updated automatically: active jobs, and stopped ones of the open model, that the page does
    not show itself. Takes no space if there are none.
    """
    with show_errors():
        busy = bool(list_active(list_statuses()))
        st.fragment(_panel, run_every=BUSY_SECONDS if busy else IDLE_SECONDS)()


def _panel() -> None:
    with show_errors():
        found = list_statuses()
        for one in [*list_active(found), *_list_ended(found)]:
            if not is_on_page(one.job.key):
                show_job(one, PANEL)
        for one in _just_done(found):
            st.caption(
                f":material/check: {escape_text(one.job.title)} is done, in "
                f"{format_duration(measure_duration(one))}"
            )


def _list_ended(found: list[JobStatus]) -> list[JobStatus]:
    """The last stopped jobs of the open model; those of others are on the Runs page."""
    ref = read_current_ref()
    return [one for one in list_stopped(found) if belongs_here(one.job, ref)][:MOST]


def _just_done(found: list[JobStatus]) -> list[JobStatus]:
    """The last longer job, right after its completion."""
    done = [one for one in found if one.state == "done" and measure_age(one.job.beat_at) < JUST_NOW_SECONDS]
    return [one for one in done if measure_duration(one) >= SLOW_SECONDS][:1]
