"""Everything that was computed: jobs and runs, how far they came, what they take; and room made."""

import streamlit as st

from pages.record.runs.details import run_details
from pages.record.runs.files import import_button
from pages.record.runs.job_rows import job_section
from pages.record.runs.listing import chosen_run, filtered, table
from pages.shared.errors import shown_errors
from pages.shared.layout import empty, page_header, page_link, size
from pages.shared.resources import store
from pages.shared.tokens import plain
from store import free_space, get_run, list_runs, storage_used


def storage() -> None:
    """What the database takes, and the button that gives back what deleted runs left."""
    used = storage_used(store())
    with st.container(horizontal=True):  # which wraps where columns would cut the numbers
        st.metric("Database file", size(used.file_bytes), border=True)
        st.metric("Results in it", size(sum(used.kind_bytes.values())), border=True)
        st.metric("Can be given back", size(used.reclaimable_bytes), border=True)
        st.metric("Free on this disk", size(used.free_disk_bytes), border=True)
    kinds = " · ".join(f"{plain(kind)} {size(count)}" for kind, count in used.kind_bytes.items())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Free space",
            icon=":material/compress:",
            on_click=shrink,
            disabled=not used.reclaimable_bytes,
            help="Shrinks the file to what it holds; needs as much free disk for a moment.",
        )
        import_button()
        path = plain(str(store().path))
        st.caption(f"By kind: {kinds}  \n{path}" if kinds else path)


def shrink() -> None:
    """Give unused room back to the disk, and say how much it was."""
    with shown_errors():
        st.toast(f"{size(free_space(store()))} given back", icon=":material/compress:")


page_header("Runs", "What was computed here, and how much room does it take?")
with shown_errors():
    storage()
    job_section()
    runs = filtered()
    if runs:
        table(runs)
        key = chosen_run(runs)
        if key:
            run_details(get_run(store(), key))
    elif list_runs(store(), limit=1):
        empty("No run is of this kind and model. Take one of the two filters away.")
    else:
        empty(
            "Nothing was computed yet. Look for a word on **Neurons**, or generate on **Clamp**: every "
            "result is kept here, so that the same question is answered at once.",
            lambda: page_link("Search the neurons", "/neurons", icon=":material/search:"),
            lambda: page_link("Clamp a neuron", "/clamp", icon=":material/tune:"),
        )
