"""Fitting a skill's boxes as a job: what is asked, stored and given back, and what is kept of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.skills.metrics import wilson_interval
from analysis.unlearning.guards.key_spaces import KeySpace, fit_key_space, try_query
from store import Store, get_finding, list_jobs, open_store, read_unit
from tests.analysis.skills_made import make_skill
from tests.workbench.jobs.job_engines import SECONDS, Desk, desk_in
from workbench.jobs.engines import KINDS
from workbench.jobs.jobs import Jobs
from workbench.models import open_model
from workbench.skills.evidence import RefusedSet, describe_key_space, keep_key_space, read_skill_answer
from workbench.skills.key_space import (
    KEY_SPACE,
    KeySpaceQuestion,
    find_key_space,
    key_space_spec,
    read_key_space,
    read_key_space_question,
)
from workbench.skills.library import keep_skill
from workbench.unlearning.questions import UnlearningQuestion


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = desk_in(tmp_path, layers=2)
    yield made
    made.store.close()


@pytest.fixture
def loaded(desk: Desk) -> Iterator[LoadedModel]:
    with open_model(desk.model, desk.store) as model:
        yield model


@pytest.fixture
def question(desk: Desk) -> KeySpaceQuestion:
    mine, other = (
        keep_skill(desk.store, make_skill(n, words=w)) for n, w in (("mine", (10, 40)), ("other", (45, 75)))
    )
    return KeySpaceQuestion(mine, (other,), unrelated=7)


def fitted(loaded: LoadedModel, store: Store, question: KeySpaceQuestion) -> tuple[str, KeySpace]:
    jobs = Jobs(store)
    job = jobs.wait(jobs.submit(question.order(loaded)).id, SECONDS)
    assert job.state == "done", job.failure
    found = find_key_space(loaded, store, question)
    assert found is not None
    return found


def test_what_comes_back_from_the_store_is_what_was_computed(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion
) -> None:
    assert KINDS["keyspace"] is KEY_SPACE
    assert find_key_space(loaded, desk.store, question) is None
    run, found = fitted(loaded, desk.store, question)
    scene = UnlearningQuestion(question.skill, question.compared).scene()
    whole = fit_key_space(loaded, scene, question.unrelated)
    assert (found.names, found.texts, found.too_long) == (whole.names, whole.texts, whole.too_long)
    for name in ("which", "probe", "drawn"):
        assert torch.equal(getattr(found, name), getattr(whole, name))
    assert list(found.layers) == list(whole.layers) == [0, 1]
    for layer, mine in found.layers.items():
        other = whole.layers[layer]
        for part, names in (
            (mine, ("depths", "points", "corners")),
            (mine.box, ("mean", "sigma", "own_k")),
            (mine.plane, ("origin", "axes", "shares")),
        ):
            told = {mine: other, mine.box: other.box, mine.plane: other.plane}[part]
            for name in names:
                assert torch.equal(getattr(part, name), getattr(told, name)), name
        assert (mine.box.layer, mine.box.k, mine.box.n) == (layer, other.box.k, other.box.n)
    one, two = (try_query(loaded, space, " w12 w13") for space in (found, whole))
    assert one.depth == two.depth
    assert read_key_space(desk.store, run) is found
    json.dumps(read_unit(desk.store, run, 0).payload, allow_nan=False)


def test_the_job_counts_queries_is_named_and_asked_twice_is_done_once(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion
) -> None:
    run, found = fitted(loaded, desk.store, question)
    [job] = list_jobs(desk.store)
    assert (job.title, job.run_key) == ("Fit the key box of mine", run)
    assert fitted(loaded, desk.store, question)[0] == run
    steps: list[tuple[int, int]] = []
    parameters = question.order(loaded).parameters
    [(index, _)] = KEY_SPACE.compute(loaded, parameters, [0], lambda *step: steps.append(step))
    assert (index, steps[-1]) == (0, (len(found.which) + int(found.probe.sum()),) * 2)
    assert KEY_SPACE.together == "queries"


def test_the_key_tells_everything_that_changes_the_answer_and_no_path(
    loaded: LoadedModel, question: KeySpaceQuestion
) -> None:
    first = key_space_spec(loaded, question).key
    moved = replace(question, skill=replace(question.skill, path="/elsewhere/mine.jsonl"))
    assert key_space_spec(loaded, moved).key == first
    others = [
        replace(question, skill=replace(question.skill, digest="0" * 64)),
        replace(question, compared=()),
        replace(question, limit=100),
        replace(question, split_seed=1),
        replace(question, unrelated=8),
    ]
    assert len({key_space_spec(loaded, other).key for other in others} | {first}) == 6
    assert read_key_space_question(json.loads(json.dumps(question.document()))) == question


def test_limit_and_seed_change_the_split(loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion) -> None:
    _, whole = fitted(loaded, desk.store, question)
    _, other = fitted(loaded, desk.store, replace(question, split_seed=3))
    assert whole.texts != other.texts
    jobs = Jobs(desk.store)
    small = jobs.wait(jobs.submit(replace(question, limit=60).order(loaded)).id, SECONDS)
    assert small.failure is not None
    assert "a box needs at least 30" in small.failure.message


@pytest.mark.parametrize("why", ["changed", "shared", "gone"])
def test_a_skill_that_cannot_be_fitted_fails_with_a_sentence(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion, why: str
) -> None:
    path = Path(question.skill.path)
    if why == "changed":
        path.write_bytes(path.read_bytes() + b'{"prompt": " w1", "answer": "w2"}\n')
    elif why == "gone":
        path.unlink()
    else:
        question = replace(question, compared=(replace(question.skill, name="twin"),))
    jobs = Jobs(desk.store)
    job = jobs.wait(jobs.submit(question.order(loaded)).id, SECONDS)
    assert job.failure is not None
    told = {"changed": "was changed during", "gone": "cannot be read", "shared": "are in twin too"}[why]
    assert told in job.failure.message
    assert not job.failure.cause or "Traceback" not in job.failure.message


def test_a_finding_holds_the_shares_their_intervals_and_the_query(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion
) -> None:
    run, found = fitted(loaded, desk.store, question)
    tried = try_query(loaded, found, " w50 w51")
    answer = describe_key_space(loaded, question, run, found, (0, 1), 0.9, layer=1, tried=(" w50 w51", tried))
    document = answer.to_document()
    shares = found.count_refused((0, 1), 0.9)
    assert [row["refused"] for row in document["sets"]] == [share for share, _ in shares]
    assert document["sets"][0]["interval"] == list(wilson_interval(*shares[0]))
    assert (document["alpha"], document["layers"], document["layer"]) == (0.9, [0, 1], 1)
    assert document["query"]["depth"] == max(tried.depth.values())
    assert document["query"]["inside"] == (max(tried.depth.values()) <= 0.9)
    assert len(document["query"]["neurons"]) == 20
    kept = keep_key_space(loaded, desk.store, answer, title=" Shares ", tags=["a"])
    again = get_finding(desk.store, kept.id)
    assert (again.title, again.kind, again.evidence["run"]) == ("Shares", "skill", run)
    assert again.evidence == json.loads(json.dumps(document))
    assert read_skill_answer(again.evidence) == replace(answer, opened={})
    odd = again.evidence | {"alpha": "x", "sets": [3, {"set": "one", "queries": "many"}, {"refused": 0.5}]}
    assert read_skill_answer(odd) == replace(
        answer, opened={}, alpha=None, sets=(RefusedSet("one"), RefusedSet(refused=0.5))
    )
    with pytest.raises(HeadlampError, match="needs a title"):
        keep_key_space(loaded, desk.store, answer, title="  ")


def test_a_set_without_a_query_has_no_share(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion
) -> None:
    run, found = fitted(loaded, desk.store, replace(question, unrelated=0))
    document = describe_key_space(loaded, question, run, found, (1,), 1.0, layer=1).to_document()
    assert document["sets"][-1] == {
        "set": "unrelated text",
        "queries": 0,
        "refused": None,
        "interval": [0.0, 1.0],
    }
    assert "query" not in document


def test_a_store_that_is_opened_anew_gives_the_same_answer(
    loaded: LoadedModel, desk: Desk, question: KeySpaceQuestion
) -> None:
    run, found = fitted(loaded, desk.store, question)
    other = open_store(desk.store.path)
    assert torch.equal(read_key_space(other, run).layers[1].depths, found.layers[1].depths)
    other.close()
