"""Import benchmark: time and memory by the number of units.

    python -m bench.run_files [UNITS ...]      default: 1000 4000 16000

Each import runs in a process of its own. Linear growth means: four times the units, four times the
seconds. The last column is the longest that another writer of the same database waited meanwhile.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import threading
import time
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np

from store import RunSpec, begin_run, export_runs, import_runs, open_store, put_unit
from store.models import FileHashes

MEMORY = 8 << 30
"""Free memory assumed by the import."""


def main() -> None:
    """Print a line for each number of units."""
    print("   units    file kB   seconds   per unit ms   peak MB over start   other writer waited ms")
    for units in map(int, sys.argv[1:] or ["1000", "4000", "16000"]):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "runs.zip"
            _apart(_export, file, units)
            seconds, grown, waited = _apart(_import, file, units)
            print(
                f"{units:8} {file.stat().st_size / 1e3:10.0f} {seconds:9.2f} {1e3 * seconds / units:13.3f} "
                f"{grown:20.1f} {1e3 * waited:24.1f}"
            )


def _apart(work, *given):  # type: ignore[no-untyped-def]
    context = multiprocessing.get_context("spawn")
    answers: Queue[object] = context.Queue()
    process = context.Process(target=work, args=(answers, *given))
    process.start()
    answer = answers.get()
    process.join()
    return answer


def _export(answers: Queue[object], file: Path, units: int) -> None:
    store = open_store(file.with_name("there.db"))
    spec = RunSpec("decode", "1", "f" * 64, "demo/base", "float32", "cpu", {}, None, units)
    begin_run(store, spec, {})
    with store.transaction():
        for idx in range(units):
            arrays = {"x": np.arange(20.0)} if idx % 2 else {}
            put_unit(store, spec.key, idx, name=f"block {idx}", arrays=arrays, payload=[idx], seconds=0.01)
    with file.open("wb") as out:
        export_runs(store, [spec.key], out)
    answers.put(None)


def _import(answers: Queue[object], file: Path, units: int) -> None:
    store = open_store(file.with_name("here.db"))
    waited, stop = [0.0], threading.Event()

    def write() -> None:
        while not stop.is_set():
            began = time.perf_counter()
            FileHashes(store)["/a", 1, 1, 1] = "0" * 64
            waited.append(time.perf_counter() - began)
            time.sleep(0.01)

    other = threading.Thread(target=write)
    other.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    with file.open("rb") as source:
        came = import_runs(store, source, memory=MEMORY)
    seconds = time.perf_counter() - began
    stop.set()
    other.join()
    if came.units != units:
        raise SystemExit(f"{came.units} of {units} units imported")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answers.put((seconds, grown, max(waited)))


if __name__ == "__main__":
    main()
