"""How long work takes, said before it begins: by earlier runs, else by the rate of reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from store import Store, open_store
from tests.workbench.conftest import Cli
from workbench.expected import Work, expect_seconds, expect_work
from workbench.runs import UnitResult, compute_in_turn, run_missing_units, run_spec

READING = Work("reading", 2.0, 600)


@pytest.fixture
def loaded(tiny: Path) -> Iterator[LoadedModel]:
    with lease_model(ModelRef(str(tiny))) as model:
        yield model


def test_work_takes_its_tokens_at_the_rate_of_reading(loaded: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "a.db")
    assert expect_seconds(loaded, READING, store, lambda model: 300.0) == (4.0, False)
    assert expect_seconds(loaded, READING, store, lambda model: None) is None


def test_earlier_runs_of_its_kind_say_it_better(loaded: LoadedModel, tmp_path: Path) -> None:
    store: Store = open_store(tmp_path / "b.db")
    spec = run_spec(loaded, "reading", "1", {"words": 3}, units=1)
    done = run_missing_units(store, spec, compute_in_turn(lambda index: UnitResult("x", {}, {})))
    found = expect_seconds(loaded, READING, store, lambda model: 300.0, words=3)
    assert found == (done.run.seconds, True)
    assert expect_work(loaded, READING, store, words=3) == done.run.seconds
    assert expect_seconds(loaded, READING, store, lambda model: 300.0, words=4) == (4.0, False)


@pytest.mark.parametrize(
    "command",
    [
        ("decode",),
        ("experts",),
        ("levers", "b", "--prompt", "a", "--controls", "2"),
        ("sweep", "--neuron", "L0.N1", "--word", "b", "--prompt", "a", "--controls", "2"),
        ("compare",),
    ],
    ids=lambda command: command[0],
)
def test_a_command_says_minutes_before_its_job_and_not_of_what_is_stored(
    cli: Cli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("workbench.cli.commands.jobs.SHORTEST_SAID", 0.0)
    name, *options = command
    models = (tiny, tiny) if name == "compare" else (tiny,)
    asked = (name, *models, *options, "--db", tmp_path / "own.db", "--json")
    first, again = cli(*asked), cli(*asked)
    assert (first.code, again.code) == (0, 0), first.err
    assert "This takes about" in first.err
    assert "This takes about" not in again.err
