"""TARS as a job: carried out once, read again, also as an earlier version stored it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.errors import HeadlampError
from analysis.opening.leases import lease_model
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.files import write_recipe_files
from analysis.running.conversations import Conversation
from analysis.unlearning.edits.reversals import Tars
from analysis.unlearning.edits.side_effects import SideEffects
from analysis.unlearning.edits.tars import Target, find_aligned
from analysis.unlearning.edits.tars_search import TarsSearch
from store import list_jobs, open_store, read_unit
from tests.patience import SECONDS
from workbench.jobs.jobs import Jobs
from workbench.kinds import make_order
from workbench.runs import UnitResult, compute_in_turn, run_missing_units, run_spec
from workbench.saving.saving import read_changes
from workbench.unlearning.concepts.answers import RemovalAnswer
from workbench.unlearning.concepts.questions import DEFAULTS, Concept, ConceptQuestion, read_concept_question
from workbench.unlearning.concepts.removals import (
    PromptEffect,
    RemovedConcept,
    check_concepts,
    find_leak,
)
from workbench.unlearning.concepts.tars import EARLIER, TARS, find_removal
from workbench.unlearning.concepts.verdicts import judge_concept


@pytest.fixture(scope="module")
def chat() -> Iterator[LoadedModel]:
    with lease_model(ModelRef("demo/chat")) as model:
        yield model


def prompts(*texts: str) -> tuple[Conversation, ...]:
    return tuple(map(Conversation, texts))


PARIS = Concept(
    "Paris", prompts("What is the capital of France?"), prompts("Which city is the capital of France?")
)
ATHENS = Concept("Athens", prompts("What is the capital of Greece?"))
ASKED = ConceptQuestion((PARIS, ATHENS), prompts("Which animal barks?"), max_kl=0.05)


def test_concepts_are_removed_by_a_job_and_read_again(chat: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "tars.db")
    assert find_removal(chat, store, ASKED) is None
    jobs = Jobs(store)
    job = jobs.wait(jobs.submit(make_order(TARS, chat.ref, **ASKED.document())).id, SECONDS)
    assert (job.state, job.title) == ("done", "Remove the concept Paris and 1 more")
    found = find_removal(chat, store, ASKED)
    assert found is not None
    assert not found.earlier
    answer = found.answer
    assert isinstance(answer, RemovalAnswer)
    one, two = answer.concepts
    for part in (one, two):
        assert part.before > 0.3
        assert part.after <= ASKED.goal
        assert part.reached
        assert part.effects.chat is not None
        assert part.effects.chat.n == part.effects.raw.n == 100
    (held_out,) = one.take("held_out")
    assert held_out.after < held_out.before
    assert held_out.counted == (held_out.before >= 0.3)
    assert "Paris" not in one.prompts[0].answer
    assert one.after_zeroed < one.before
    assert answer.other is not None
    assert answer.other[1] == 1
    assert answer.to_document() == read_unit(store, found.run, 0).payload
    [change] = read_changes(found.files)
    assert [str(edit.address) for edit in change.edits] == [  # type: ignore[union-attr]
        edit.address for edit in found.edits
    ]
    assert find_removal(chat, store, replace(ASKED, seed=1)) is None
    assert len(list_jobs(store)) == 1


def test_what_an_earlier_version_stored_is_still_read(chat: LoadedModel, tmp_path: Path) -> None:
    store = open_store(tmp_path / "tars.db")
    asked = ConceptQuestion((Concept("Paris", PARIS.prompts),))
    document = asked.document()
    parameters = {name: document[name] for name in EARLIER}
    assert parameters["prompts"] == ["What is the capital of France?"]
    edits = find_aligned(chat, Target(chat.parameters[chat.anatomy.head.parameter][9].float(), 0, 0), 1)
    files = write_recipe_files(chat, [Tars(tuple(edits))], "recipe")
    arrays = {name: np.frombuffer(data, np.uint8) for name, data in files.items()}
    then: dict[str, Any] = {
        "concept": "Paris",
        "edits": [{"address": "L0.N3", "vector": "up", "cosine": 0.5}],
        "target": 0.95,
        "probability": {"before": 0.9, "after": 0.1},
        "kl": {"median": None, "n": 0},
        "version": "1",
    }
    spec = run_spec(chat, "tars", "1", parameters, units=1, seed=0)
    run_missing_units(store, spec, compute_in_turn(lambda index: UnitResult("Paris", arrays, then)))
    found = find_removal(chat, store, asked)
    assert found is not None
    assert found.earlier
    assert found.answer.to_document() == then
    assert [edit.address for edit in found.edits] == ["L0.N3"]
    assert found.files == files
    assert find_removal(chat, store, ASKED) is None


def test_a_question_is_read_back_and_one_of_an_earlier_version_too() -> None:
    assert read_concept_question(ASKED.document()) == ASKED
    document = ConceptQuestion((PARIS,)).document()
    earlier = {name: document[name] for name in EARLIER}
    assert read_concept_question(earlier) == ConceptQuestion((Concept("Paris", PARIS.prompts),))
    assert TARS.takes(EARLIER)
    assert TARS.takes({*EARLIER, *DEFAULTS})
    with pytest.raises(HeadlampError, match="not complete enough"):
        read_concept_question({"concept": "Paris"})


def test_what_cannot_be_removed_is_refused_before_the_work(chat: LoadedModel) -> None:
    capital = prompts("What is the capital of France?")
    refused = {
        "is a word that any text needs": Concept("the", capital),
        "is not a single token": Concept("Xyzzyplugh", capital),
        "contains 'Paris' itself": Concept("Paris", prompts("Is paris in France?")),
        "does not say 'Athens'": Concept("Athens", capital),
    }
    for message, concept in refused.items():
        with pytest.raises(HeadlampError, match=message):
            check_concepts(chat, ConceptQuestion((concept,)))
    check_concepts(chat, ASKED)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: Concept(" ", PARIS.prompts), "no concept given"),
        (lambda: Concept("Paris", ()), "no prompt that leads to 'Paris'"),
        (lambda: Concept("Paris", PARIS.prompts, PARIS.prompts), "both to aim with and to report on"),
        (lambda: ConceptQuestion((PARIS, PARIS)), "given twice"),
        (lambda: ConceptQuestion((PARIS,), goal=2.0), "above 0 and below 1"),
        (lambda: ConceptQuestion(()), "no concept given"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(made: Any, message: str) -> None:
    with pytest.raises(HeadlampError, match=message):
        made()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("It is Paris.", "Paris"),
        ("It is PARIS", "PARIS"),
        ("P-a-r-i-s, of course", "P-a-r-i-s"),
        ("P. a. r. i. s", "P. a. r. i. s"),
        ("The City of Light", "City of Light"),
        ("Parisian life", ""),
        ("Comparisons", ""),
        ("London", ""),
    ],
)
def test_a_leak_is_found_however_it_is_spelled(answer: str, says: str) -> None:
    assert find_leak(answer, "Paris", ("City of Light",)) == says


def removed(reached: bool, without_rows: float, held_out: float) -> RemovedConcept:
    effects = [
        PromptEffect("aim", "aimed", "", 0.9, 0.001, 0.0, "", ""),
        PromptEffect("held", "held_out", "", 0.8, held_out, 0.0, "It is P-a-r-i-s", "P-a-r-i-s"),
        PromptEffect("rare", "held_out", "", 0.1, 0.09, 0.0, "", ""),
    ]
    search: Any = TarsSearch((), 0.9, 0.001 if reached else 0.5, without_rows, 0.0, 0.0, 3, reached)
    nothing: Any = SideEffects
    return RemovedConcept("Paris", nothing, search, tuple(effects), nothing, nothing)


@pytest.mark.parametrize(
    ("found", "begins"),
    [
        (removed(True, 0.9, 0.01), "The token is banned: head rows carry"),
        (removed(True, 0.001, 0.01), "Paris is removed by 0 vectors of neurons"),
        (removed(True, 0.001, 0.6), "Failed to remove Paris outside the prompts"),
        (removed(False, 0.9, 0.01), "Failed to remove Paris: "),
    ],
)
def test_the_verdict_says_what_was_removed_and_what_was_not(found: RemovedConcept, begins: str) -> None:
    said = judge_concept(found, 0.01, 0.01)
    assert said.startswith(begins)
    assert "in 1 held-out wording" in said  # the rare one does not count
    assert "1 answer of 3 still say it (“P-a-r-i-s”)" in said
