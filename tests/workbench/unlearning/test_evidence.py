"""Unlearning kept as a finding, and asked again."""

# ruff: noqa: F811 - what tests ask for are the fixtures

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import HeadlampError, RecipeError, SkillError
from analysis.opening.models import LoadedModel
from store import Store
from tests.workbench.unlearning.unlearned_made import found, loaded, question, store  # noqa: F401 - fixtures
from workbench.reruns import find_largest_difference
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.evidence import ask_again, keep_unlearning
from workbench.unlearning.questions import UnlearningQuestion


@pytest.mark.slow
def test_a_finding_is_asked_again_wherever_its_skills_lie_now(
    loaded: LoadedModel,
    store: Store,
    found: UnlearningAnswer,
    question: UnlearningQuestion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = {}
    for source in (question.forget, *question.retain):
        moved[source.name] = tmp_path / f"{source.name}.jsonl"
        moved[source.name].write_bytes(Path(source.path).read_bytes())
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", moved)
    elsewhere = replace(question, forget=replace(question.forget, path="/nowhere/one.jsonl"))
    kept = keep_unlearning(loaded, store, elsewhere, found, title="Forget one")
    assert ask_again(store, kept).difference == 0
    kept.evidence["document"]["methods"][0]["skills"][0]["after"] += 0.25
    assert ask_again(store, kept).difference == pytest.approx(0.25)
    kept.evidence["document"]["methods"][0]["skills"][0]["warning"] = "another"
    assert ask_again(store, kept).difference == math.inf
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", {})
    with pytest.raises(SkillError, match="cannot be read"):
        ask_again(store, kept)
    del kept.evidence["question"]
    with pytest.raises(HeadlampError, match="not complete enough to run again"):
        ask_again(store, kept)


def test_an_unlearning_that_is_not_whole_or_has_no_title_is_not_kept(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer, question: UnlearningQuestion
) -> None:
    with pytest.raises(HeadlampError, match="needs a title"):
        keep_unlearning(loaded, store, question, found, title=" ")
    half = replace(found, methods=found.methods[:1])
    with pytest.raises(HeadlampError, match="not all methods are done"):
        keep_unlearning(loaded, store, question, half, title="Half")


def test_another_models_bytes_are_not_asked(
    loaded: LoadedModel, store: Store, found: UnlearningAnswer, question: UnlearningQuestion
) -> None:
    kept = keep_unlearning(loaded, store, question, found, title="Forget one")
    with pytest.raises(RecipeError, match="is no longer the model"):
        ask_again(store, replace(kept, model_fingerprint="0" * 64))


def test_skills_in_other_languages_are_found_too_and_code_is_contained_whatever_was_allowed_then(
    loaded: LoadedModel,
    store: Store,
    found: UnlearningAnswer,
    question: UnlearningQuestion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = {source.name: Path(source.path) for source in (question.forget, *question.retain)}
    monkeypatch.setattr("workbench.skills.library.BUNDLED_SKILLS", here)
    made: list[UnlearningQuestion] = []

    def fresh(loaded: LoadedModel, asked: UnlearningQuestion) -> list[object]:
        made.append(asked)
        return []

    monkeypatch.setattr("workbench.unlearning.evidence.remeasure_methods", fresh)
    moved = replace(question.retain[0], path="/nowhere/two.jsonl")
    asked = replace(question, other_language=(moved,), tests="unsafe")
    ask_again(store, keep_unlearning(loaded, store, asked, found, title="Forget one"))
    assert made[0].other_language == question.retain
    assert made[0].tests == "contained"


def test_documents_are_compared_number_by_number() -> None:
    then = {"a": [1, 0.5, None], "b": "x"}
    assert find_largest_difference(then, {"a": [1, 0.5, None], "b": "x", "new": 3}) == 0
    assert find_largest_difference(then, {"a": [1, 0.75, None], "b": "x"}) == 0.25
    shorter, other_kind = {"a": [1, 0.5], "b": "x"}, {"a": [1, 0.5, 0.0], "b": "x"}
    assert find_largest_difference([0.5, 1.0], [0.5, math.nan]) == math.inf
    for other in (shorter, other_kind, {"b": "x"}, {"a": [1, 0.5, None], "b": 1}, [then], None):
        assert find_largest_difference(then, other) == math.inf


@pytest.mark.parametrize("then", [{}, {"a": "x", "b": [True, None]}, []])
def test_evidence_without_a_number_is_no_evidence_that_it_still_holds(then: object) -> None:
    with pytest.raises(HeadlampError, match="nothing to compare"):
        find_largest_difference(then, {"a": 1.0})
