"""Levers of a word as a job: computed once, stored, and read again."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.anatomy.addresses import parse_address
from analysis.intervening.clamps import Scope
from analysis.levers.bench import WordBench
from analysis.opening.models import LoadedModel
from store import Store, list_jobs
from tests.patience import SECONDS
from tests.workbench.levers.levers_asked import ask_levers_of, database, loaded  # noqa: F401
from workbench.jobs.jobs import Jobs
from workbench.kinds import make_order
from workbench.levers.labels import rank_labels
from workbench.levers.levers import LEVERS, answer_levers, find_levers, levers_spec
from workbench.levers.prompts import place_prompts
from workbench.levers.questions import SITES


def test_levers_are_computed_by_a_job_and_read_again(loaded: LoadedModel, database: Store) -> None:
    asked = ask_levers_of()
    assert find_levers(loaded, database, asked) is None
    jobs = Jobs(database)
    job = jobs.wait(jobs.submit(make_order(LEVERS, loaded.ref, **asked.document())).id, SECONDS)
    assert (job.state, job.title) == ("done", "Levers of “dog”")
    stored = find_levers(loaded, database, asked)
    assert stored is not None
    assert stored.run == job.run_key
    assert stored.answer == replace(answer_levers(loaded, asked), seconds=stored.answer.seconds)
    assert stored.answer.prompts == {"select": 2, "held_out": 2, "other": 1}
    assert len(stored.answer.positions) == 2
    assert "“dog”" in stored.answer.verdict
    for other in (replace(asked, seed=1), replace(asked, held_out=asked.held_out[:1]), replace(asked, top=5)):
        assert find_levers(loaded, database, other) is None
    assert len(list_jobs(database)) == 1


def test_the_shortlist_is_that_of_the_labels_and_the_gradient(loaded: LoadedModel) -> None:
    asked = ask_levers_of(controls=0, set_size=1, sites=("down", "up"))
    found = answer_levers(loaded, asked).found
    placed = [one.placed for one in place_prompts(loaded, asked.held_out, "dog")]
    bench = WordBench(loaded, placed, Scope("last"), exact=True)
    assert found.base == pytest.approx(float(bench.base.mean[0]))
    labels = rank_labels(loaded, "dog", (), asked.sites, asked.top)
    listed = {one.address: one for one in found.shortlist}
    assert set(labels) <= set(listed)
    assert {address: listed[address].z for address in labels} == pytest.approx(labels)
    graded = [one for one in found.shortlist if one.gradient is not None]
    assert len(graded) == asked.top
    assert all(one.z is not None or one.gradient is not None for one in found.shortlist)
    assert len(listed) == len(found.shortlist) <= asked.top + asked.top + asked.top // 2
    more = answer_levers(loaded, replace(asked, sites=SITES)).found
    assert len(more.shortlist) > len(found.shortlist)


def test_a_run_has_one_unit_and_its_seed(loaded: LoadedModel) -> None:
    spec = levers_spec(loaded, ask_levers_of(seed=5).document())
    assert (spec.kind, spec.units, spec.seed) == ("levers", 1, 5)
    assert spec.parameters["prompt_ids"]
    assert parse_address("L0.N1").block.layer == 0
