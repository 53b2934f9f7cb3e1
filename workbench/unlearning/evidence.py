"""Unlearning as a finding: the question with its numbers is kept, and can be run again."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from analysis.errors import HeadlampError, RecipeError
from analysis.opening.models import LoadedModel, ModelRef
from analysis.recipes.recipes import versions
from store import Finding, Store
from workbench.keeping import keep_evidence
from workbench.models import open_model
from workbench.skills.library import list_skills
from workbench.skills.sources import SkillSource
from workbench.unlearning.unlearning import (
    UnlearningAnswer,
    UnlearningQuestion,
    read_question,
    remeasure_methods,
)

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
    if len(found.document["methods"]) < len(question.methods):
        raise HeadlampError("not all methods are done; keep it when they are")
    evidence = {
        "run": found.run,
        "seed": question.seed,
        "question": question.document(),
        "document": found.document,
        "dtype": loaded.dtype,
        "device": loaded.ref.device,
        "revision": loaded.ref.revision,
        "versions": versions(),
    }
    return keep_evidence(loaded, store, KIND, evidence, title, note, tags)


@dataclass(frozen=True)
class UnlearningRerun:
    """A finding's question, answered again. difference: the largest over all numbers; infinite if another
    candidate, count or text resulted.
    """

    difference: float
    seconds: float


def ask_again(store: Store, finding: Finding) -> UnlearningRerun:
    """Fit, choose and measure again, never from stored results.

    Raises HeadlampError if model or skills changed, or the evidence is incomplete.
    """
    ref, question, then = _read_question(store, finding)
    with open_model(ref, store) as loaded:
        if loaded.fingerprint != finding.model_fingerprint:
            raise RecipeError(
                f"{finding.model_name} is no longer the model this finding was made with: fingerprint "
                f"{loaded.fingerprint[:12]}… now, {finding.model_fingerprint[:12]}… then; open the old folder"
            )
        started = time.perf_counter()
        now = remeasure_methods(loaded, question)
        return UnlearningRerun(find_largest_difference(then, now), time.perf_counter() - started)


def _read_question(store: Store, finding: Finding) -> tuple[ModelRef, UnlearningQuestion, list[Any]]:
    evidence = finding.evidence
    try:
        asked = read_question(evidence["question"])
        then = list(evidence["document"]["methods"])
        ref = ModelRef(
            finding.model_name, evidence.get("revision"), evidence["device"], evidence.get("dtype") or "auto"
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadlampError(
            f"this finding's evidence is not complete enough to run again: {type(error).__name__} {error}"
        ) from error
    here = {source.digest: source for source in list_skills(store)}
    question = replace(
        asked,
        forget=_here(asked.forget, here),
        retain=tuple(_here(source, here) for source in asked.retain),
        other_language=tuple(_here(source, here) for source in asked.other_language),
        # an untrusted finding must not allow code to run without a sandbox here
        tests="contained" if asked.tests == "unsafe" else asked.tests,
    )
    return ref, question, then


def _here(source: SkillSource, here: Mapping[str, SkillSource]) -> SkillSource:
    """The same examples at any path on this machine; else the recorded path."""
    return replace(source, path=here[source.digest].path) if source.digest in here else source


def find_largest_difference(then: Any, now: Any) -> float:
    """The largest difference over all numbers at the same places of two JSON documents; ≥ 0, infinite if a
    text, a truth value, a length or a type differs. Keys that only `now` has are ignored.
    """
    if isinstance(then, Mapping):
        same = isinstance(now, Mapping)
        return (
            max((find_largest_difference(v, now.get(k)) for k, v in then.items()), default=0.0)
            if same
            else math.inf
        )
    if isinstance(then, list):
        if not isinstance(now, list) or len(then) != len(now):
            return math.inf
        return max((find_largest_difference(a, b) for a, b in zip(then, now, strict=True)), default=0.0)
    if _is_number(then) and _is_number(now):
        difference = abs(float(then) - float(now))
        return math.inf if math.isnan(difference) else difference
    return 0.0 if type(then) is type(now) and then == now else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
