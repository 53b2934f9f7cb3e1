"""The app and three command lines at work on one database: nobody is locked out, and no row is lost."""

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

from store import get_run, list_findings, list_jobs, list_runs, open_store
from tests.torture.children import Call, call_commands, decode_all, forked
from tests.torture.counts import count

COMMAND_LINES = 3
CALLS = count(quick=6, full=60)
SITES = ("up", "gate", "down")
DEPTHS = tuple(range(1, count(quick=4, full=24)))


def kept_titles(calls: list[Call]) -> set[str]:
    """The titles of the findings that these commands were asked to keep."""
    return {call.arguments[-1] for call in calls if call.arguments[0] == "generate"}


def decoded_runs(calls: list[Call]) -> set[str]:
    """The runs that `decode` answered with."""
    return {json.loads(call.out)["run"] for call in calls if call.arguments[0] == "decode"}


def test_nobody_is_locked_out_and_no_row_is_lost_while_the_app_and_three_commands_work(
    llama: Callable[..., Path], tmp_path: Path
) -> None:
    model = llama("model", num_hidden_layers=12, intermediate_size=400)
    database = tmp_path / "shared.db"
    with ProcessPoolExecutor(1 + COMMAND_LINES, mp_context=forked()) as processes:
        decoding = processes.submit(decode_all, database, model, SITES, DEPTHS)
        commands = [
            processes.submit(call_commands, database, model, seed, CALLS) for seed in range(COMMAND_LINES)
        ]
        calls = [call for command in commands for call in command.result()]
        decoded = set(decoding.result())
    refused = [call for call in calls if call.code != 0 or "locked" in call.err]
    assert refused == []
    store = open_store(database)
    runs = {run.key: run for run in list_runs(store, limit=10_000)}
    assert decoded | decoded_runs(calls) <= set(runs)
    assert all(run.finished and run.stored_units == run.units for run in runs.values())
    assert {get_run(store, key).units for key in decoded} == {12}
    kept, jobs = list_findings(store, limit=10_000), list_jobs(store, limit=10_000)
    lost = kept_titles(calls) - {finding.title for finding in kept}
    assert (lost, len(kept)) == (set(), len(kept_titles(calls)))
    assert {job.state for job in jobs} == {"done"}
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    print(
        f"\n{len(calls)} commands beside {len(decoded)} decodings in the app: {len(runs)} runs, "
        f"{len(kept)} findings, {len(jobs)} jobs; refused {len(refused)}, lost {len(lost)}"
    )
