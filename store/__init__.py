"""Store remembers: runs and their arrays, models, findings, jobs, and the files they are exported to.

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
    JobActive,
    JobNotFound,
    JobTaken,
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
from store.jobs import (
    Job,
    JobFailure,
    JobOrder,
    JobState,
    Owner,
    abandon_job,
    ask_job,
    finish_job,
    forget_job,
    get_job,
    list_jobs,
    report_job,
    request_cancel,
    requeue_job,
    take_job,
)
from store.models import FileHashes, FileKey, StoredModel, list_models, remember_model
from store.repair import Repaired, repair
from store.run_files import ExportedRuns, ImportedRuns, export_runs, import_runs
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
    "ExportedRuns",
    "FileHashes",
    "FileKey",
    "Finding",
    "FindingNotFound",
    "ImportResult",
    "ImportedRuns",
    "Job",
    "JobActive",
    "JobFailure",
    "JobNotFound",
    "JobOrder",
    "JobState",
    "JobTaken",
    "Json",
    "Owner",
    "Repaired",
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
    "abandon_job",
    "all_tags",
    "ask_job",
    "begin_run",
    "default_path",
    "delete_finding",
    "delete_run",
    "export_runs",
    "find_run",
    "findings_csv",
    "findings_html",
    "findings_json",
    "findings_markdown",
    "finish_job",
    "forget_job",
    "free_space",
    "get_finding",
    "get_job",
    "get_run",
    "import_findings",
    "import_runs",
    "keep_finding",
    "list_findings",
    "list_jobs",
    "list_models",
    "list_runs",
    "open_store",
    "put_unit",
    "read_array",
    "read_arrays",
    "read_unit",
    "remember_model",
    "repair",
    "report_job",
    "request_cancel",
    "requeue_job",
    "storage_used",
    "stored_units",
    "take_job",
    "update_finding",
]
