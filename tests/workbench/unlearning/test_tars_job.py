"""TARS as a job: carried out once, read again."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

from pathlib import Path

from analysis.opening.models import LoadedModel
from store import list_jobs, open_store
from tests.patience import SECONDS
from tests.workbench.unlearning.unlearned_made import loaded  # noqa: F401 - fixtures
from workbench.jobs.jobs import Jobs
from workbench.kinds import make_order
from workbench.unlearning.tars import TARS, ConceptQuestion, find_removal
from workbench.unlearning.unlearning import read_changes


def test_a_concept_is_removed_by_a_job_and_read_again(loaded: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "tars.db")
    asked = ConceptQuestion("dog", ("the cat the", "the"), edits=2)
    assert find_removal(loaded, store, asked) is None
    jobs = Jobs(store)
    job = jobs.wait(jobs.submit(make_order(TARS, loaded.ref, **asked.document())).id, SECONDS)
    assert (job.state, job.title) == ("done", "Remove the concept dog")
    found = find_removal(loaded, store, asked)
    assert found is not None
    assert 1 <= len(found.document["edits"]) <= 2
    assert found.document["probability"]["after"] < found.document["probability"]["before"]
    [change] = read_changes(found.files)
    assert [str(edit.address) for edit in change.edits] == [  # type: ignore[union-attr]
        edit["address"] for edit in found.document["edits"]
    ]
    assert find_removal(loaded, store, ConceptQuestion("dog", ("the",), edits=2)) is None
    assert (
        find_removal(loaded, store, ConceptQuestion("dog", ("the cat the", "the"), edits=2, seed=1)) is None
    )
    assert len(list_jobs(store)) == 1
