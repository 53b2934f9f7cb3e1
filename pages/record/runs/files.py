"""Runs as files: export of one, import of any number."""

from __future__ import annotations

from functools import partial
from io import BytesIO

import streamlit as st

from pages.shared.errors import toast_errors
from pages.shared.layout import show_download
from pages.shared.resources import get_store
from store import Run, Store, export_runs
from workbench.storage import import_run_file

LARGEST_MB = 1024
"""Largest import file: the server holds it in memory."""

_UPLOAD = "_runs_upload"


def show_export_button(run: Run) -> None:
    """The run as a file, made on click."""
    show_download(
        "Export", partial(export_run, get_store(), run.key), f"{run.key[:12]}.runs.zip", key="export_run"
    )


def export_run(store: Store, key: str) -> bytes:
    """The run's stored part as a file."""
    file = BytesIO()
    export_runs(store, [key], file)
    return file.getvalue()


def show_import_button() -> None:
    """Import runs from such a file; existing units stay unchanged."""
    with (
        st.popover("Import", icon=":material/upload:"),
        st.form("import_runs", border=False, clear_on_submit=True),
    ):
        file = st.file_uploader("A file made by Export", type="zip", key=_UPLOAD, max_upload_size=LARGEST_MB)
        if st.form_submit_button("Import", type="primary") and file is not None:
            with toast_errors():
                came = import_run_file(get_store(), file)
                counts = {
                    "added": came.added, "completed": came.completed, "unchanged": came.unchanged
                }  # fmt: skip
                told = ", ".join(f"{len(keys)} {what}" for what, keys in counts.items() if keys)
                st.toast(
                    f"Runs: {told or 'none in it'}; {came.units:,} parts imported", icon=":material/upload:"
                )
