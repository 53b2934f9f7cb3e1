"""One run in detail: its question, versions, what is missing, and what can be done with it."""

from __future__ import annotations

import streamlit as st

from pages.record.runs.files import export_button
from pages.shared import state
from pages.shared.errors import shown_errors, toasted_errors
from pages.shared.layout import duration, page_link, short, size, when
from pages.shared.resources import jobs, store
from pages.shared.tokens import plain
from store import Run, delete_run
from workbench.jobs.engines import KINDS

MAKERS = {
    "find": ("/neurons", "Neurons"),
    "generate": ("/clamp", "Clamp"),
}
"""Kind of run → the page that makes such runs, where it is no job."""


def run_details(run: Run) -> None:
    """One run: its question, versions, what is missing, and the way to delete it."""
    st.subheader(f"{plain(run.kind)} · {plain(short(run.model_name))}", anchor=False)
    st.progress(run.stored_units / run.units, f"{run.stored_units} of {run.units} parts stored")
    if not run.finished:
        _unfinished(run)
    st.caption(
        f"Key `{run.key}` · made {when(run.created_at)} · {duration(run.seconds)} of work "
        f"· {size(run.bytes)} · {plain(run.dtype)} on {plain(run.device)} "
        f"· seed {'–' if run.seed is None else run.seed} "
        f"· method version {plain(run.method_version)}"
    )
    parameters, versions = st.columns([2, 1])
    with parameters:
        st.markdown("**Parameters**")
        st.json(run.parameters)
    with versions:
        st.markdown("**Made with**")
        st.json(run.versions)
    with st.container(horizontal=True):
        export_button(run)
        with st.popover("Delete this run", icon=":material/delete:"):
            st.markdown(
                "Its results are deleted for good; "
                "findings that were kept of it stay, with all their evidence."
            )
            st.button("Delete it", type="primary", on_click=_remove, args=(run.key,))


def _unfinished(run: Run) -> None:
    """How a run that stopped goes on: at once where it is a job's, else on the page that made it."""
    if run.kind in KINDS:
        st.info("It is not complete. What is stored stays, and a job does the rest.")
        if st.button("Resume", icon=":material/play_arrow:", key="resume_run"):
            with toasted_errors():
                jobs().resume_run(run.key)
                st.rerun()
        return
    path, page = MAKERS.get(run.kind, ("/", "the page that made it"))
    st.info(
        f"It stopped before its end. Open {page} with this model and ask for the same: it goes on from there."
    )
    page_link(f"Open {page}", path, icon=":material/play_arrow:", **{state.MODEL: run.model_name})


def _remove(key: str) -> None:
    """Delete a run and go back to the list."""
    with shown_errors():
        delete_run(store(), key)
        st.query_params.pop(state.RUN, None)
        st.toast("The run is deleted", icon=":material/delete:")
