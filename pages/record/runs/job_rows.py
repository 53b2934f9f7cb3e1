"""The jobs of the Runs page: what is under way, what stopped before its end, and all there were."""

from __future__ import annotations

import math
from collections.abc import Iterable

import streamlit as st

from pages.shared.errors import show_unreadable, shown_errors, toasted_errors
from pages.shared.jobs.listing import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    dismiss,
    model_of,
    statuses,
    stopped,
    took,
    under_way,
)
from pages.shared.jobs.view import share, show_job
from pages.shared.layout import caption, when
from pages.shared.resources import store
from store import list_jobs
from workbench.jobs.status import JobStatus

MOST = 20
"""Jobs that stopped before their end that are shown one by one; the table holds them all."""


def job_section() -> None:
    """The section, which keeps itself up to date. Where there never was a job, nothing."""
    show_unreadable(list_jobs(store()))
    found = statuses()
    if not found:
        return
    st.subheader("Jobs", anchor=False)
    working = _ids(under_way(found))
    st.fragment(_cards, run_every=BUSY_SECONDS if working else IDLE_SECONDS)(working)
    with st.expander(f"All jobs ({len(found)})", icon=":material/list:"):
        _table(found)


def _cards(working: frozenset[int]) -> None:
    """working: what was under way when the page was drawn; once that changes, so do table and runs."""
    with shown_errors():
        found = statuses()
        now_working = under_way(found)
        if _ids(now_working) != working:
            st.rerun()
        for one in [*now_working, *stopped(found, within=math.inf)[:MOST]]:
            show_job(one, "list")


def _ids(found: Iterable[JobStatus]) -> frozenset[int]:
    return frozenset(one.job.id for one in found)


def _table(found: list[JobStatus]) -> None:
    rows = {
        "job": [one.job.title for one in found],
        "model": [model_of(one.job) for one in found],
        "state": [one.state for one in found],
        "done": [share(one) for one in found],
        "of": [f"{one.job.done:,}/{one.job.total:,} {one.job.unit}" for one in found],
        "seconds": [took(one) if one.job.started_at else None for one in found],
        "begun": [when(one.job.started_at or one.job.created_at) for one in found],
        "error": [one.job.failure.message if one.job.failure else "" for one in found],
    }
    column = st.column_config
    config = {
        "done": column.ProgressColumn(format="percent", min_value=0, max_value=1, width=90),
        "seconds": column.NumberColumn(format="%.1f"),
    }
    st.dataframe(rows, hide_index=True, column_config=config)
    caption("The newest first. Seconds since each was begun or resumed last.")
    done = [one for one in found if one.state == "done"]
    help = "What they stored stays."
    if done and st.button(f"Dismiss the {len(done)} that are done", icon=":material/close:", help=help):
        with toasted_errors():
            for one in done:
                dismiss(one.job)
            st.rerun()
