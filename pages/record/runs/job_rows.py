"""Jobs on the Runs page: active ones, stopped ones, and the table of all."""

from __future__ import annotations

import math
from collections.abc import Iterable

import streamlit as st

from pages.shared.errors import show_errors, show_unreadable, toast_errors
from pages.shared.jobs.listing import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    dismiss_job,
    list_active,
    list_statuses,
    list_stopped,
    measure_duration,
    name_job_model,
)
from pages.shared.jobs.view import measure_progress, show_job
from pages.shared.layout import format_time, show_caption
from pages.shared.resources import get_store
from store import list_jobs
from workbench.jobs.status import JobStatus

MOST = 20
"""Stopped jobs shown individually; the table holds all."""


def show_jobs() -> None:
    """The section, updated automatically. Empty if there never was a job."""
    show_unreadable(list_jobs(get_store()))
    found = list_statuses()
    if not found:
        return
    st.subheader("Jobs", anchor=False)
    working = _ids(list_active(found))
    st.fragment(_cards, run_every=BUSY_SECONDS if working else IDLE_SECONDS)(working)
    with st.expander(f"All jobs ({len(found)})", icon=":material/list:"):
        _table(found)


def _cards(working: frozenset[int]) -> None:
    """working: the active jobs when the page was drawn; once that changes, table and runs are redrawn."""
    with show_errors():
        found = list_statuses()
        now_working = list_active(found)
        if _ids(now_working) != working:
            st.rerun()
        for one in [*now_working, *list_stopped(found, within=math.inf)[:MOST]]:
            show_job(one, "list")


def _ids(found: Iterable[JobStatus]) -> frozenset[int]:
    return frozenset(one.job.id for one in found)


def _table(found: list[JobStatus]) -> None:
    rows = {
        "job": [one.job.title for one in found],
        "model": [name_job_model(one.job) for one in found],
        "state": [one.state for one in found],
        "done": [measure_progress(one) for one in found],
        "of": [f"{one.job.done:,}/{one.job.total:,} {one.job.unit}" for one in found],
        "seconds": [measure_duration(one) if one.job.started_at else None for one in found],
        "begun": [format_time(one.job.started_at or one.job.created_at) for one in found],
        "error": [one.job.failure.message if one.job.failure else "" for one in found],
    }
    column = st.column_config
    config = {
        "done": column.ProgressColumn(format="percent", min_value=0, max_value=1, width=90),
        "seconds": column.NumberColumn(format="%.1f"),
    }
    st.dataframe(rows, hide_index=True, column_config=config)
    show_caption("Newest first. Seconds since each was last started or resumed.")
    done = [one for one in found if one.state == "done"]
    help = "Their stored results stay."
    if done and st.button(f"Dismiss the {len(done)} that are done", icon=":material/close:", help=help):
        with toast_errors():
            for one in done:
                dismiss_job(one.job)
            st.rerun()
