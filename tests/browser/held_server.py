"""The app, whose jobs and texts wait after a few units or tokens while the file named by HOLD exists.

So that a browser has all the time it takes to look at long work, on quick machines and on busy ones.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.running.generation import generate_steps
from headlamp import serving
from workbench.generating import clamping
from workbench.jobs import jobs
from workbench.runs import FinishedRun, Progress, run_missing_units

UNITS = 3
"""How many units of a job, or tokens of a text, are computed before it waits."""
SECONDS = 0.05


def run_held_units(store: Any, spec: Any, compute: Any, progress: Progress) -> FinishedRun:
    """`run_missing_units`; while it waits it can be cancelled as at any other time."""
    hold = Path(os.environ["HOLD"])

    def wait(done: int, total: int) -> None:
        progress(done, total)
        while done >= UNITS and hold.exists():
            time.sleep(SECONDS)
            progress(done, total)

    return run_missing_units(store, spec, compute, wait)


def generate_held_steps(*asked: Any) -> Iterator[Any]:
    """The steps of `analysis.running.generation.generate_steps`; between two of them nothing is locked."""
    hold = Path(os.environ["HOLD"])
    for done, step in enumerate(generate_steps(*asked), 1):
        yield step
        while done >= UNITS and hold.exists():
            time.sleep(SECONDS)


if __name__ == "__main__":
    clamping.generate_steps = generate_held_steps  # type: ignore[attr-defined, assignment]
    jobs.run_missing_units = run_held_units  # type: ignore[attr-defined, assignment]
    sys.exit(serving.main(sys.argv[1:]))
