"""Runs: jobs and runs, their progress and size; and freeing space."""

import streamlit as st

from pages.record.runs.details import show_run
from pages.record.runs.files import show_import_button
from pages.record.runs.job_rows import show_jobs
from pages.record.runs.listing import choose_run, filter_runs, show_runs
from pages.shared.errors import show_errors
from pages.shared.layout import format_size, show_empty, show_header, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from store import free_space, get_run, list_runs, measure_storage


def show_storage() -> None:
    """The size of the database, and the button that frees the space of deleted runs."""
    used = measure_storage(get_store())
    with st.container(horizontal=True):  # which wraps where columns would truncate the numbers
        st.metric("Database file", format_size(used.file_bytes), border=True)
        st.metric("Results in it", format_size(sum(used.kind_bytes.values())), border=True)
        st.metric("Reclaimable", format_size(used.reclaimable_bytes), border=True)
        st.metric("Free on this disk", format_size(used.free_disk_bytes), border=True)
    kinds = " · ".join(f"{escape_text(kind)} {format_size(count)}" for kind, count in used.kind_bytes.items())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Free space",
            icon=":material/compress:",
            on_click=free_room,
            disabled=not used.reclaimable_bytes,
            help="Shrinks the file to its contents; temporarily needs as much free disk.",
        )
        show_import_button()
        path = escape_text(str(get_store().path))
        st.caption(f"By kind: {kinds}  \n{path}" if kinds else path)


def free_room() -> None:
    """Shrink the database file, and report the freed space."""
    with show_errors():
        st.toast(f"{format_size(free_space(get_store()))} freed", icon=":material/compress:")


show_header("Runs", "What was computed here, and how much space does it take?")
with show_errors():
    show_storage()
    show_jobs()
    runs = filter_runs()
    if runs:
        show_runs(runs)
        key = choose_run(runs)
        if key:
            show_run(get_run(get_store(), key))
    elif list_runs(get_store(), limit=1):
        show_empty("No run matches this kind and model. Remove one of the two filters.")
    else:
        show_empty(
            "Nothing was computed yet. Search a word on **Neurons**, or generate on **Clamp**: every "
            "result is stored here, and the same question is then answered at once.",
            lambda: show_page_link("Search the neurons", "/neurons", icon=":material/search:"),
            lambda: show_page_link("Clamp a neuron", "/clamp", icon=":material/tune:"),
        )
