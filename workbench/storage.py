"""What is stored and how much room it takes, for pages and the CLI."""

from typing import BinaryIO

import store as stores
from analysis.devices import free_memory
from store import (
    ExportedRuns,
    ImportedRuns,
    Job,
    Listed,
    Repaired,
    Run,
    Storage,
    Store,
    UnreadableRow,
    check_run,
    default_path,
    delete_run,
    export_runs,
    forget_job,
    free_space,
    get_run,
    list_jobs,
    list_models,
    list_runs,
    open_store,
    storage_used,
)
from store import repair as repair_database

__all__ = [
    "ExportedRuns",
    "ImportedRuns",
    "Job",
    "Listed",
    "Repaired",
    "Run",
    "Storage",
    "Store",
    "UnreadableRow",
    "check_run",
    "default_path",
    "delete_run",
    "export_runs",
    "forget_job",
    "free_space",
    "get_run",
    "import_runs",
    "list_jobs",
    "list_models",
    "list_runs",
    "open_store",
    "repair_database",
    "storage_used",
]


def import_runs(store: Store, source: BinaryIO) -> ImportedRuns:
    """Add the runs of a file by `export_runs`, in the memory that is free now. BadImport, StoreFull."""
    return stores.import_runs(store, source, memory=free_memory().host)
