"""Pruning as a finding: the question with its numbers is kept, and can be measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.anatomy.addresses import parse_part
from analysis.opening.models import LoadedModel
from store import Finding, Store
from workbench.experts.profiles import keep_texts
from workbench.experts.pruning import PRUNE, prune_spec, pruning_recipe
from workbench.experts.questions import PruneQuestion, read_prune_question
from workbench.experts.reports import PruneReport, measure_report
from workbench.experts.verdicts import describe_pruning
from workbench.keeping import describe_run, keep_evidence
from workbench.kinds import Order
from workbench.reruns import (
    MeasuredAgain,
    explain_incomplete,
    find_largest_difference,
    open_unchanged,
    read_kept,
    read_ref,
)

KIND = "pruning"
"""The kind of such findings."""


def keep_pruning(
    loaded: LoadedModel,
    store: Store,
    order: Order,
    report: PruneReport,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a pruning with its controls, both texts and the recipe. Raises HeadlampError for a blank title."""
    samples = {"base": report.base.sample, "changed": report.pruned.sample}
    evidence = {
        "run": prune_spec(loaded, order.parameters).key,
        "question": dict(order.parameters),
        "document": report.to_document() | {"verdict": describe_pruning(report)},
        "recipe": pruning_recipe(loaded, [parse_part(part) for part in report.pruned.parts]),
        "prompt": report.prompt,
        **{row: {"text": sample.text} for row, sample in samples.items() if sample is not None},
        **describe_run(loaded),
    }
    return keep_evidence(loaded, store, KIND, json.loads(json.dumps(evidence)), title, note, tags)


def prune_again(store: Store, finding: Finding) -> MeasuredAgain:
    """Evaluate every set again, never from stored results.

    Raises HeadlampError if the model changed, the text is not on this machine, or the evidence is incomplete.
    """
    with explain_incomplete():
        ref, kept = read_ref(finding), read_kept(finding)
        asked = _read_asked(kept.question)
    with open_unchanged(ref, finding, store) as loaded:
        keep_texts(loaded)  # those in the model's folder, which the question names by digest
        started = time.perf_counter()
        now = json.loads(json.dumps(measure_report(loaded, asked).to_document()))
        seconds = time.perf_counter() - started
    return MeasuredAgain(find_largest_difference(kept.document, now, ("verdict",)), seconds)


def _read_asked(question: Mapping[str, Any]) -> PruneQuestion:
    """A finding's question, which may come from an untrusted file. Raises ValueError."""
    if not PRUNE.takes(question):
        raise ValueError("the question's parameters are not those of a pruning")
    return read_prune_question(question)
