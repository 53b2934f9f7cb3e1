"""Recent runs, each a link that reopens the view it came from, and the space that all of them take."""

from __future__ import annotations

import streamlit as st

from pages.shared.layout import (
    format_duration,
    format_size,
    format_time,
    shorten_model,
    show_empty,
    show_page_link,
)
from pages.shared.links.runs import describe_stored_run
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store import Run, list_runs, measure_storage

RECENT = 8


def show_recent_runs() -> None:
    """The latest runs of any model."""
    st.subheader("Recent runs", anchor=False)
    runs = list_runs(get_store(), limit=RECENT)
    if not runs:
        show_empty(
            "Nothing has been run yet. Every result is stored, and the same question is then answered at "
            "once."
        )
    for run in runs:
        name, page, view = describe_stored_run(run)
        with st.container(horizontal=True, vertical_alignment="center"):
            show_page_link(escape_text(name), page, icon=":material/replay:", **view)
            st.caption(_describe(run))


def show_storage_link() -> None:
    """How much disk space the store takes, with a link to manage it."""
    used = measure_storage(get_store())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"The store takes {format_size(used.file_bytes)}; its disk has "
            f"{format_size(used.free_disk_bytes)} free."
        )
        show_page_link("All runs", "/runs", icon=":material/history:")


def _describe(run: Run) -> str:
    state = "" if run.finished else f" · {run.stored_units:,} of {run.units:,} parts done"
    return (
        f"{escape_text(shorten_model(run.model_name))} · {format_time(run.created_at)} · "
        f"{format_duration(run.seconds)}{state}"
    )
