"""What is stored and how much room it takes, for pages and the CLI."""

from store import (
    Run,
    Storage,
    Store,
    delete_run,
    free_space,
    get_run,
    list_runs,
    open_store,
    storage_used,
)

__all__ = [
    "Run",
    "Storage",
    "Store",
    "delete_run",
    "free_space",
    "get_run",
    "list_runs",
    "open_store",
    "storage_used",
]
