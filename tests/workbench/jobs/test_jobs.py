"""Jobs: asked for once, done in the background in order, and what they store is what anybody computes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.errors import HeadlampError
from analysis.opening.models import ModelRef
from store import get_job, list_jobs, open_store
from tests.patience import SECONDS
from tests.workbench.jobs.job_engines import (
    LAYERS,
    Desk,
    Gate,
    Watched,
    another_process,
    desk_in,
    stored_bytes,
)
from workbench.generating.clamping import generate_pair
from workbench.generating.requests import GenerationRequest
from workbench.jobs.jobs import Jobs, require_success
from workbench.kinds import make_order
from workbench.models import open_model
from workbench.neurons.decoding import DECODE, decode_model
from workbench.neurons.profiles import PROFILE


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = desk_in(tmp_path)
    yield desk
    desk.store.close()


def test_a_job_stores_byte_for_byte_what_decode_model_stores(desk: Desk, tmp_path: Path) -> None:
    jobs = Jobs(desk.store)
    job = jobs.wait(jobs.submit(desk.order(norm="final")).id, SECONDS)
    other = open_store(tmp_path / "other.db")
    with open_model(desk.model, other) as loaded:
        run = decode_model(loaded, other, site="up", norm="final", top_k=5).run
    assert (job.state, job.run_key) == ("done", run.key)
    assert stored_bytes(desk.store, run.key) == stored_bytes(other, run.key)


@pytest.mark.real
def test_a_trained_model_is_decoded_in_a_job(stories: Path, tmp_path: Path) -> None:
    store, other = open_store(tmp_path / "one.db"), open_store(tmp_path / "other.db")
    ref, jobs = ModelRef(str(stories)), Jobs(store)
    job = jobs.wait(jobs.submit(make_order(DECODE, ref, site="down", norm="none", top_k=10)).id, SECONDS)
    with open_model(ref, other) as loaded:
        key = decode_model(loaded, other, site="down").run.key
    assert (job.state, job.done, job.run_key) == ("done", 5, key)
    assert stored_bytes(store, key) == stored_bytes(other, key)


def test_a_job_says_what_it_does_and_how_far_it_is(desk: Desk) -> None:
    gate = Gate(at=3)
    jobs = Jobs(desk.store, Watched(gate))
    asked = jobs.submit(desk.order(site="down", norm="unit"))
    assert (asked.state, asked.title, asked.total) == ("queued", "Decode at down, norm unit", 0)
    gate.wait()
    now = jobs.wait(asked.id, timeout=0)
    assert (now.state, now.done, now.total, now.unit) == ("running", 3, LAYERS, "blocks")
    gate.opened.set()
    seen: list[int] = []
    ended = jobs.wait(asked.id, SECONDS, progress=lambda job: seen.append(job.done))
    assert (ended.state, ended.done, ended.total) == ("done", LAYERS, LAYERS)
    assert require_success(ended) == ended
    assert seen == sorted(seen)


def test_a_profile_counts_windows_of_text_while_it_reads_them(desk: Desk) -> None:
    jobs, seen = Jobs(desk.store), set()
    job = jobs.submit(desk.order(PROFILE))
    job = jobs.wait(job.id, SECONDS, progress=lambda now: seen.add(now.unit))
    assert (job.state, job.done, job.unit) == ("done", LAYERS, "blocks")
    assert "windows" in seen


def test_the_same_order_asked_twice_is_one_job(desk: Desk) -> None:
    gate = Gate(at=1)
    engine = Watched(gate)
    jobs = Jobs(desk.store, engine)
    first = jobs.submit(desk.order())
    gate.wait()
    again, other = jobs.submit(desk.order()), jobs.submit(desk.order(top_k=3))
    assert (again.id, again.state) == (first.id, "running")
    assert other.id != first.id
    gate.opened.set()
    assert [jobs.wait(job.id, SECONDS).state for job in (first, other)] == ["done", "done"]
    assert engine.asked == [0, 1, 2, 3] * 2


def test_an_order_that_another_process_works_on_is_waited_for_not_done_again(desk: Desk) -> None:
    gate, theirs = Gate(at=1), Watched()
    here = Jobs(desk.store, Watched(gate))
    there = Jobs(open_store(desk.store.path), theirs)
    there.owner = another_process()
    job = here.submit(desk.order())
    gate.wait()
    attached = there.submit(desk.order())
    assert (attached.id, attached.owner) == (job.id, here.owner)
    assert there.resume(job.id).owner == here.owner
    gate.opened.set()
    assert there.wait(job.id, SECONDS).state == "done"
    assert theirs.asked == []
    assert len(list_jobs(desk.store)) == 1


def test_a_run_that_is_stored_already_is_done_at_once(desk: Desk) -> None:
    first, engine = Jobs(desk.store), Watched()
    whole = first.wait(first.submit(desk.order()).id, SECONDS)
    again = Jobs(desk.store, engine)
    job = again.wait(again.submit(desk.order()).id, SECONDS)
    assert (job.state, job.run_key) == ("done", whole.run_key)
    assert job.id != whole.id
    assert engine.asked == []


def test_jobs_are_done_one_after_the_other_in_the_order_they_were_asked(desk: Desk) -> None:
    gate = Gate(at=0)
    jobs = Jobs(desk.store, Watched(gate))
    asked = [jobs.submit(desk.order(top_k=k)).id for k in (4, 3, 2)]
    gate.wait()
    assert [get_job(desk.store, job).state for job in asked] == ["running", "queued", "queued"]
    gate.opened.set()
    ended = [jobs.wait(job, SECONDS) for job in asked]
    assert [job.state for job in ended] == ["done"] * 3
    begun, finished = [str(j.started_at) for j in ended], [str(j.finished_at) for j in ended]
    assert all(end <= start for end, start in zip(finished, begun[1:], strict=False))


def test_jobs_of_two_stores_do_not_mix(desk: Desk, tmp_path: Path) -> None:
    gate, engine = Gate(at=0), Watched()
    here, there = Jobs(desk.store, Watched(gate)), Jobs(open_store(tmp_path / "other.db"), engine)
    job = here.submit(desk.order())
    gate.wait()
    other = there.submit(desk.order())
    assert there.wait(other.id, SECONDS).state == "done"
    assert here.wait(job.id, 0).state == "running"
    there.cancel(other.id)
    gate.opened.set()
    assert here.wait(job.id, SECONDS).state == "done"
    assert (len(list_jobs(here.store)), len(list_jobs(there.store))) == (1, 1)


def test_a_stored_run_goes_on_as_a_job_and_an_answer_that_is_no_job_says_so(desk: Desk) -> None:
    jobs = Jobs(desk.store, Watched())
    with open_model(desk.model, desk.store) as loaded:
        decoded = decode_model(loaded, desk.store, site="up", top_k=5).run
        text = generate_pair(loaded, desk.store, GenerationRequest(" my dog"))
    job = jobs.wait(jobs.resume_run(decoded.key).id, SECONDS)
    assert (job.state, job.run_key, job.key) == ("done", decoded.key, desk.order().key)
    with pytest.raises(HeadlampError, match="a generate run is not a job: repeat the request"):
        jobs.resume_run(text.run)


def test_an_order_names_exactly_what_its_kind_takes(desk: Desk) -> None:
    with pytest.raises(ValueError, match="decode takes site, norm, top_k, not site"):
        make_order(DECODE, desk.model, site="up")
