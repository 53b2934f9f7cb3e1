"""Runs as files: one run out, as many as a file holds in."""

from __future__ import annotations

from functools import partial
from io import BytesIO

import streamlit as st

from pages.shared.errors import toasted_errors
from pages.shared.layout import download
from pages.shared.resources import store
from store import Run, Store, export_runs
from workbench.storage import import_runs

LARGEST_MB = 1024
"""Of a file that is taken in: the server holds it in memory for that long."""

_UPLOAD = "_runs_upload"


def export_button(run: Run) -> None:
    """The run as a file, made when it is clicked."""
    download("Export", partial(exported, store(), run.key), f"{run.key[:12]}.runs.zip", key="export_run")


def exported(store: Store, key: str) -> bytes:
    """The run, as far as it is stored, as a file."""
    file = BytesIO()
    export_runs(store, [key], file)
    return file.getvalue()


def import_button() -> None:
    """Runs from such a file; units that are here already stay as they are."""
    with (
        st.popover("Import", icon=":material/upload:"),
        st.form("import_runs", border=False, clear_on_submit=True),
    ):
        file = st.file_uploader("A file made by Export", type="zip", key=_UPLOAD, max_upload_size=LARGEST_MB)
        if st.form_submit_button("Import", type="primary") and file is not None:
            with toasted_errors():
                came = import_runs(store(), file)
                counts = {
                    "added": came.added, "completed": came.completed, "here already": came.unchanged
                }  # fmt: skip
                told = ", ".join(f"{len(keys)} {what}" for what, keys in counts.items() if keys)
                st.toast(
                    f"Runs: {told or 'none in it'}; {came.units:,} parts came in", icon=":material/upload:"
                )
