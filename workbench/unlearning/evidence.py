"""Unlearning as a finding: the question with its numbers is kept, and can be run again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel, ModelRef
from store import Finding, Store
from workbench.keeping import describe_run, keep_evidence
from workbench.records import read_record
from workbench.reruns import (
    MeasuredAgain,
    explain_incomplete,
    find_largest_difference,
    open_unchanged,
    read_kept,
    read_ref,
)
from workbench.skills.library import list_skills
from workbench.skills.sources import SkillSource
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.questions import SOURCES, UnlearningQuestion, read_question
from workbench.unlearning.unlearning import remeasure_methods

KIND = "unlearning"
"""The kind of such findings."""


def keep_unlearning(
    loaded: LoadedModel,
    store: Store,
    question: UnlearningQuestion,
    found: UnlearningAnswer,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a question and its numbers; no tensors, which a re-run computes again.

    Raises HeadlampError for a blank title, or while methods are missing.
    """
    if len(found.methods) < len(question.methods):
        raise HeadlampError("not all methods are done; keep it when they are")
    evidence = {
        "run": found.run,
        "seed": question.seed,
        "question": question.document(),
        "document": found.to_document(),
        **describe_run(loaded),
    }
    return keep_evidence(loaded, store, KIND, evidence, title, note, tags)


def ask_again(store: Store, finding: Finding) -> MeasuredAgain:
    """Fit, choose and measure again, never from stored results.

    Raises HeadlampError if model or skills changed, or the evidence is incomplete.
    """
    ref, question, then = _read_question(store, finding)
    with open_unchanged(ref, finding, store) as loaded:
        started = time.perf_counter()
        now = remeasure_methods(loaded, question)
        return MeasuredAgain(find_largest_difference(then, now, ("verdict",)), time.perf_counter() - started)


@dataclass(frozen=True)
class _Kept:
    """The numbers of a finding, as they were printed then."""

    methods: tuple[Any, ...]


def _read_question(store: Store, finding: Finding) -> tuple[ModelRef, UnlearningQuestion, list[Any]]:
    with explain_incomplete():
        kept = read_kept(finding)
        asked = read_question(kept.question)
        then = list(read_record(_Kept, kept.document).methods)
        ref = read_ref(finding)
    here = {source.digest: source for source in list_skills(store)}
    moved = {name: tuple(_here(source, here) for source in getattr(asked, name)) for name in SOURCES}
    # an untrusted finding must not allow code to run without a sandbox here
    tests = "contained" if asked.tests == "unsafe" else asked.tests
    question = replace(asked, forget=_here(asked.forget, here), tests=tests, **moved)  # type: ignore[arg-type]
    return ref, question, then


def _here(source: SkillSource, here: Mapping[str, SkillSource]) -> SkillSource:
    """The same examples at any path on this machine; else the recorded path."""
    return replace(source, path=here[source.digest].path) if source.digest in here else source
