"""Store remembers: runs and their arrays, models, findings, and the files findings are exported to.

    store = open_store()
    run = begin_run(store, spec, versions)
    for idx in set(range(run.units)) - stored_units(store, run.key):
        put_unit(store, run.key, idx, name=…, arrays={"ids": …}, seconds=…)
    ids = read_arrays(store, run.key, "ids")

One Store is shared by all threads. Every error is a StoreError that says the way out.
"""

from store.arrays import read_array, read_arrays
from store.database import Store, default_path, open_store
from store.documents import Json
from store.errors import (
    BadImport,
    DatabaseBusy,
    DatabaseCorrupt,
    DatabaseForeign,
    DatabaseFromNewerVersion,
    DatabaseReadOnly,
    FindingNotFound,
    RunNotFound,
    StoreError,
    StoreFull,
    UnitMissing,
    UnstorableValue,
)
from store.export import (
    ImportResult,
    findings_csv,
    findings_html,
    findings_json,
    findings_markdown,
    import_findings,
)
from store.findings import (
    Finding,
    all_tags,
    delete_finding,
    get_finding,
    keep_finding,
    list_findings,
    update_finding,
)
from store.models import FileHashes, FileKey, StoredModel, list_models, remember_model
from store.runs import (
    Run,
    RunSpec,
    Unit,
    begin_run,
    delete_run,
    find_run,
    get_run,
    list_runs,
    put_unit,
    read_unit,
    stored_units,
)
from store.storage import Storage, free_space, storage_used

__all__ = [
    "BadImport",
    "DatabaseBusy",
    "DatabaseCorrupt",
    "DatabaseForeign",
    "DatabaseFromNewerVersion",
    "DatabaseReadOnly",
    "FileHashes",
    "FileKey",
    "Finding",
    "FindingNotFound",
    "ImportResult",
    "Json",
    "Run",
    "RunNotFound",
    "RunSpec",
    "Storage",
    "Store",
    "StoreError",
    "StoreFull",
    "StoredModel",
    "Unit",
    "UnitMissing",
    "UnstorableValue",
    "all_tags",
    "begin_run",
    "default_path",
    "delete_finding",
    "delete_run",
    "find_run",
    "findings_csv",
    "findings_html",
    "findings_json",
    "findings_markdown",
    "free_space",
    "get_finding",
    "get_run",
    "import_findings",
    "keep_finding",
    "list_findings",
    "list_models",
    "list_runs",
    "open_store",
    "put_unit",
    "read_array",
    "read_arrays",
    "read_unit",
    "remember_model",
    "storage_used",
    "stored_units",
    "update_finding",
]
