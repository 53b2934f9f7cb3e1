"""What several tests share of runs made."""

from typing import Any

import numpy as np
import pytest

from store import (
    Run,
    RunSpec,
    Store,
    begin_run,
    default_path,
    find_run,
    open_store,
    put_unit,
)


@pytest.fixture
def database(isolated_environment: None) -> Store:
    """The store the page will open."""
    return open_store(default_path())


def plant(
    database: Store,
    kind: str = "decode",
    *,
    stored: int = 2,
    units: int = 2,
    asked: dict[str, Any] | None = None,
    **named: str,
) -> Run:
    """A run with so many of its units stored, 4 kB each. asked: parameters instead of the usual ones."""
    told = {"model_name": "demo/base", "prompt": "x"} | named
    parameters = {"site": "up", "prompt": told["prompt"]} if asked is None else asked
    spec = RunSpec(kind, "1", "f" * 8, told["model_name"], "float32", "cpu", parameters, 7, units)
    run = begin_run(database, spec, {"torch": "2.13.0"})
    for index in range(stored):
        put_unit(
            database, run.key, index, name=f"L{index}", arrays={"a": np.zeros(1000, np.float32)}, seconds=1.5
        )
    return find_run(database, run.key) or run
