"""Rows that are not as they were written: commands list the others, name them, and still delete runs."""

from contextlib import closing
from pathlib import Path

import pytest

from store import (
    JobOrder,
    Owner,
    RunSpec,
    Store,
    ask_job,
    begin_run,
    keep_finding,
    open_store,
    remember_model,
)
from tests.workbench.conftest import Cli

SPOILED = {"models": "facts", "runs": "parameters", "findings": "evidence", "jobs": '"order"'}
COMMANDS = {
    "models": ("models",),
    "runs": ("runs", "list"),
    "findings": ("findings", "list"),
    "jobs": ("jobs", "list"),
}


@pytest.fixture
def run_keys(isolated_environment: None) -> list[str]:
    """Two rows of each table; the first of each is not JSON any more. The keys of the runs."""
    with closing(open_store()) as store:
        keys = [plant(store, number) for number in range(2)]
        store.db.execute("DROP TRIGGER findings_frozen")
        for table, column in SPOILED.items():
            store.db.execute(f"UPDATE {table} SET {column} = '{{' WHERE rowid = 1")
    return keys


def plant(store: Store, number: int) -> str:
    """A model, a run, a finding and a job; the run's key."""
    name = f"made {number}"
    remember_model(store, fingerprint=name, name=name, revision=None, path=None, facts={})
    run = begin_run(store, RunSpec("decode", "1", name, name, "float32", "cpu", {}, None, 1), {})
    keep_finding(store, title=name, kind="note", model_name=name, model_fingerprint=name, evidence={})
    ask_job(store, JobOrder("find", name, name, {}, total=1, unit="blocks"), Owner("desk", 1, 1.0))
    return run.key


@pytest.mark.parametrize("table", COMMANDS)
def test_a_list_names_the_row_it_leaves_out(cli: Cli, run_keys: list[str], table: str) -> None:
    document = cli(*COMMANDS[table], "--json").document
    (bad,) = document["unreadable"]
    assert bad["table"] == table
    assert "is not JSON" in bad["why"]
    if table != "models":
        assert len(document[table]) == 1
    shown = cli(*COMMANDS[table])
    assert shown.code == 0
    assert bad["why"] in shown.err


def test_an_export_of_all_findings_names_what_it_leaves_out(
    cli: Cli, run_keys: list[str], tmp_path: Path
) -> None:
    answer = cli("findings", "export", "--format", "json", "--out", tmp_path / "all.json", "--json")
    assert answer.document["findings"] == 1
    assert "is not JSON" in answer.err


def test_the_way_out_that_is_told_works(cli: Cli, run_keys: list[str]) -> None:
    (bad,) = cli("runs", "list", "--json").document["unreadable"]
    assert f"runs delete {run_keys[0]}" in bad["why"]
    assert cli("runs", "delete", run_keys[0]).code == 0
    assert cli("runs", "list", "--json").document["unreadable"] == []
    assert cli("repair", "--json").code == 0
    for table, command in COMMANDS.items():
        assert cli(*command, "--json").document["unreadable"] == [], table
