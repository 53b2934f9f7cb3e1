"""The job panel in the sidebar of every page: what is under way, and what stopped before its end."""

from __future__ import annotations

import streamlit as st

from pages.shared.errors import shown_errors
from pages.shared.jobs.listing import BUSY_SECONDS, IDLE_SECONDS, age, statuses, stopped, took, under_way
from pages.shared.jobs.view import show_job
from pages.shared.layout import duration
from pages.shared.tokens import plain
from workbench.jobs.status import JobStatus

MOST = 5
"""Jobs that stopped before their end that are shown; the others are on the Runs page."""

SLOW_SECONDS, JUST_NOW_SECONDS = 3.0, 60.0
"""A job that took so long is said to be done, for so long afterwards."""


def job_panel() -> None:
    """The panel, which keeps itself up to date. Nothing to tell: no room taken."""
    with shown_errors():
        busy = bool(under_way(statuses()))
        st.fragment(_panel, run_every=BUSY_SECONDS if busy else IDLE_SECONDS)()


def _panel() -> None:
    with shown_errors():
        found = statuses()
        working, ended = under_way(found), stopped(found)[:MOST]
        for one in [*working, *ended]:
            show_job(one, "panel")
        for one in _just_done(found):
            st.caption(f":material/check: {plain(one.job.title)} is done, in {duration(took(one))}")


def _just_done(found: list[JobStatus]) -> list[JobStatus]:
    """The last job that took a while, right after it."""
    done = [one for one in found if one.state == "done" and age(one.job.beat_at) < JUST_NOW_SECONDS]
    return [one for one in done if took(one) >= SLOW_SECONDS][:1]
