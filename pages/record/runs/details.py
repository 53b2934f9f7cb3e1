"""One run in detail: question, versions, what is missing, and actions."""

from __future__ import annotations

import streamlit as st

from pages.record.runs.files import show_export_button
from pages.shared import state
from pages.shared.errors import show_errors, toast_errors
from pages.shared.layout import format_duration, format_size, format_time, shorten_model, show_page_link
from pages.shared.resources import get_jobs, get_store
from pages.shared.tokens import escape_text
from store import Run, delete_run
from workbench.jobs.engines import KINDS

MAKERS = {
    "find": ("/neurons", "Neurons"),
    "generate": ("/clamp", "Clamp"),
}
"""Kind of run → the page that makes such runs, if they are not jobs."""


def show_run(run: Run) -> None:
    """One run: question, versions, what is missing, and how to delete it."""
    st.subheader(f"{escape_text(run.kind)} · {escape_text(shorten_model(run.model_name))}", anchor=False)
    st.progress(run.stored_units / run.units, f"{run.stored_units} of {run.units} parts stored")
    if not run.finished:
        _show_unfinished(run)
    st.caption(
        f"Key `{run.key}` · made {format_time(run.created_at)} · {format_duration(run.seconds)} of work "
        f"· {format_size(run.bytes)} · {escape_text(run.dtype)} on {escape_text(run.device)} "
        f"· seed {'–' if run.seed is None else run.seed} "
        f"· method version {escape_text(run.method_version)}"
    )
    parameters, versions = st.columns([2, 1])
    with parameters:
        st.markdown("**Parameters**")
        st.json(run.parameters)
    with versions:
        st.markdown("**Made with**")
        st.json(run.versions)
    with st.container(horizontal=True):
        show_export_button(run)
        with st.popover("Delete this run", icon=":material/delete:"):
            st.markdown(
                "Its results are deleted permanently; findings made from it stay, with all their evidence."
            )
            st.button("Delete it", type="primary", on_click=_remove, args=(run.key,))


def _show_unfinished(run: Run) -> None:
    """How to resume a stopped run: directly if it is a job's, else on the page that made it."""
    if run.kind in KINDS:
        st.info("It is incomplete. Stored units stay, and a job computes the rest.")
        if st.button("Resume", icon=":material/play_arrow:", key="resume_run"):
            with toast_errors():
                get_jobs().resume_run(run.key)
                st.rerun()
        return
    path, page = MAKERS.get(run.kind, ("/", "the page that made it"))
    st.info(
        f"It is incomplete. Open {page} with this model and repeat the request: it resumes where it stopped."
    )
    show_page_link(f"Open {page}", path, icon=":material/play_arrow:", **{state.MODEL: run.model_name})


def _remove(key: str) -> None:
    """Delete a run and go back to the list."""
    with show_errors():
        delete_run(get_store(), key)
        st.query_params.pop(state.RUN, None)
        st.toast("The run is deleted", icon=":material/delete:")
