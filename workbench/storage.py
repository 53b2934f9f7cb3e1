"""Import of runs within the free memory of this machine."""

from typing import BinaryIO

import store as stores
from analysis.checkpoints.devices import read_free_memory
from store import ImportedRuns, Store


def import_run_file(store: Store, source: BinaryIO) -> ImportedRuns:
    """Add the runs of a file by `export_runs`, in the memory that is free now. BadImport, StoreFull."""
    return stores.import_runs(store, source, memory=read_free_memory().host)
