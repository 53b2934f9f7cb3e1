"""Sweeps and levers as findings: question and numbers are kept, and can be measured again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import write_recipe_document
from store import Finding, Store
from workbench.keeping import describe_run, keep_evidence
from workbench.levers.answers import LeverAnswer, SweepAnswer
from workbench.levers.best import best_clamps
from workbench.levers.levers import answer_levers
from workbench.levers.questions import (
    LeverQuestion,
    SweepQuestion,
    read_lever_question,
    read_sweep_question,
)
from workbench.levers.sweeps import answer_sweep
from workbench.reruns import (
    MeasuredAgain,
    explain_incomplete,
    find_largest_difference,
    open_unchanged,
    read_kept,
    read_ref,
)

LEVERS_KIND, SWEEP_KIND = KINDS = ("levers", "sweep")
"""The kinds of such findings."""
DERIVED = ("seconds", "verdict", "reason")
"""Fields of a document that say what numbers say, or how long they took."""


def keep_effect(
    loaded: LoadedModel,
    store: Store,
    asked: LeverQuestion | SweepQuestion,
    found: LeverAnswer | SweepAnswer,
    run: str,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep the levers of a word, or a sweep. Raises HeadlampError for a blank title."""
    clamps = best_clamps(found)
    evidence = {
        "run": run,
        "seed": asked.seed,
        "question": asked.document(),
        "document": found.to_document(),
        "clamps": [str(clamp) for clamp in clamps],
        "recipe": write_recipe_document(loaded, clamps),
        **describe_run(loaded),
    }
    kind = LEVERS_KIND if isinstance(found, LeverAnswer) else SWEEP_KIND
    return keep_evidence(loaded, store, kind, evidence, title, note, tags)


def measure_again(store: Store, finding: Finding) -> MeasuredAgain:
    """Answer a finding's question again, never from stored results.

    Raises HeadlampError if the model changed, or the evidence is incomplete.
    """
    with explain_incomplete():
        ref, kept = read_ref(finding), read_kept(finding)
        ask = _read_asked(finding.kind, kept.question)
    with open_unchanged(ref, finding, store) as loaded:
        started = time.perf_counter()
        now = ask(loaded)
        seconds = time.perf_counter() - started
    return MeasuredAgain(find_largest_difference(kept.document, now.to_document(), DERIVED), seconds)


def _read_asked(kind: str, question: Mapping[str, Any]) -> Callable[[LoadedModel], LeverAnswer | SweepAnswer]:
    """How a finding's question is answered, read completely before its model is opened."""
    if kind == LEVERS_KIND:
        levers = read_lever_question(question)
        return lambda loaded: answer_levers(loaded, levers)
    sweep = read_sweep_question(question)
    return lambda loaded: answer_sweep(loaded, sweep)
