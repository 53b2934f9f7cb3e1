"""Profiling and pruning as jobs: killed and resumed at the next batch, the same bytes in the end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.opening.models import ModelRef
from store import get_run, keep_text, list_stored_units, open_store
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from tests.conftest import ROOT
from tests.workbench.jobs.job_engines import SECONDS, Desk, Gate, Watched, stored_bytes
from workbench.experts.profiles import EXPERTS, ProfileTexts, expert_profile_spec, read_expert_profile
from workbench.experts.pruning import PRUNE, prune_order
from workbench.experts.questions import read_prune_question
from workbench.experts.reports import read_report
from workbench.jobs.jobs import Jobs
from workbench.kinds import Order, make_order
from workbench.models import open_model

WORDS = " dog cat the is my w20 w21 w22 w23 w24"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    model = tmp_path / "moe"
    tiny_model("mixtral").save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    desk = Desk(open_store(tmp_path / "jobs.db"), ModelRef(str(model)))
    yield desk
    desk.store.close()


def profile_order(desk: Desk) -> Order:
    """Windows of 16 tokens, 128 in a batch: four of them."""
    text = keep_text(WORDS * 700 + " dog cat")
    return make_order(EXPERTS, desk.model, text=text, split=False, window=16)


def pruning_order(desk: Desk) -> Order:
    asked = {"text": keep_text(WORDS * 6), "split": True, "window": 16}
    groups = [[["L1.E2"]], [["L0.E1"], ["L0.E3"], ["L0.E1"]], [["L1.E0"]]]
    return make_order(PRUNE, desk.model, groups=groups, draws=3, prompt=4, new_tokens=6, **asked)


@pytest.mark.parametrize("kind", ["experts", "prune"])
def test_a_job_that_was_stopped_goes_on_at_the_next_unit_and_ends_with_the_same_bytes(
    desk: Desk, tmp_path: Path, kind: str
) -> None:
    order = profile_order(desk) if kind == "experts" else pruning_order(desk)
    gate = Gate(at=2)
    engine = Watched(gate)
    jobs = Jobs(desk.store, engine)
    job = jobs.submit(order)
    gate.wait()
    jobs.cancel(job.id)
    ended = jobs.wait(job.id, SECONDS)
    assert ended.state == "cancelled"
    assert list_stored_units(desk.store, str(ended.run_key)) == {0, 1}
    gate.opened.set()
    again = jobs.wait(jobs.resume(job.id).id, SECONDS)
    assert again.state == "done"
    units = get_run(desk.store, str(again.run_key)).units
    assert engine.asked == [0, 1, 2, *range(2, units)]
    other = Jobs(open_store(tmp_path / "whole.db"))
    whole = other.wait(other.submit(order).id, SECONDS)
    assert whole.run_key == again.run_key
    assert stored_bytes(desk.store, again.run_key) == stored_bytes(other.store, whole.run_key)


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed as soon as some units are stored; the second process does the others alone."""
    model = tmp_path / "moe"
    tiny_model("mixtral", num_hidden_layers=12).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    text = tmp_path / "text.txt"
    text.write_text(WORDS * 3_000)
    database = tmp_path / "killed.db"
    command = [
        sys.executable,
        "-m",
        "workbench",
        "experts",
        str(model),
        "--text",
        str(text),
        "--db",
        str(database),
    ]
    process = subprocess.Popen(
        [*command, "--json"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = open_store(database)
    try:
        key = None
        end = time.monotonic() + 4 * SECONDS
        while key is None and process.poll() is None and time.monotonic() < end:
            rows = store.rows("SELECT run_key, count(*) AS n FROM units GROUP BY run_key")
            key = next((row["run_key"] for row in rows if row["n"] >= 2), None)
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert key is not None
        before = list_stored_units(store, key)
        units = get_run(store, key).units
        assert 2 <= len(before) < units
        stamps = store.rows("SELECT idx, created_at FROM units WHERE run_key = ?", (key,))
        done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
        assert '"experts"' in done.stdout
        assert list_stored_units(store, key) == set(range(units))
        kept = {
            r["idx"]: r["created_at"] for r in store.rows("SELECT * FROM units WHERE run_key = ?", (key,))
        }
        assert all(kept[row["idx"]] == row["created_at"] for row in stamps)
    finally:
        process.kill()
        store.close()


def test_equal_random_sets_are_evaluated_once(desk: Desk) -> None:
    jobs = Jobs(desk.store)
    job = jobs.wait(jobs.submit(pruning_order(desk)).id, SECONDS)
    assert get_run(desk.store, str(job.run_key)).units == 5  # as it is, pruned, three different sets
    with open_model(desk.model, desk.store) as loaded:
        asked = read_prune_question(pruning_order(desk).parameters)
        report = read_report(loaded, desk.store, str(job.run_key), asked)
    assert [one.parts for one in report.random] == [("L0.E1",), ("L0.E3",), ("L0.E1",)]
    assert report.random[0] is not None
    assert report.random[0].effect == report.random[2].effect != report.random[1].effect
    assert report.windows == 1
    assert report.base.perplexity.interval is None
    assert any("a single window, so there are no intervals" in remark for remark in report.remarks)


def test_the_order_of_a_pruning_names_what_is_drawn_so_that_it_means_the_same_anywhere(desk: Desk) -> None:
    jobs = Jobs(desk.store)
    order = profile_order(desk)
    job = jobs.wait(jobs.submit(order).id, SECONDS)
    with open_model(desk.model, desk.store) as loaded:
        assert expert_profile_spec(loaded, order.parameters).key == job.run_key
        profile = read_expert_profile(loaded, desk.store, str(job.run_key))
        parts = [loaded.anatomy.blocks[6].address]
        texts = ProfileTexts(order.parameters["text"], order.parameters["text"])
        one, same, other = (
            prune_order(loaded, profile, parts, texts, draws=5, seed=seed) for seed in (0, 0, 1)
        )
    assert one.key == same.key != other.key
    assert [len(group) for group in one.parameters["groups"]] == [1, 5, 5]
    assert one.parameters["groups"][0] == [["L1.E2"]]
    assert profile.tokens == 7002
