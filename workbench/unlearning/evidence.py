"""Unlearning as a finding: the question with its numbers, kept; and asked once more, from nothing."""

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
from workbench.keeping import keep
from workbench.models import opened
from workbench.skills.library import skill_library
from workbench.skills.sources import SkillSource
from workbench.unlearning.unlearning import Question, Unlearned, fresh_methods, read_question

KIND = "unlearning"
"""The kind of such findings."""


def keep_unlearning(
    loaded: LoadedModel,
    store: Store,
    question: Question,
    found: Unlearned,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Freeze a question and its numbers; no tensors, which asking again makes anew.

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
    return keep(loaded, store, KIND, evidence, title, note, tags)


@dataclass(frozen=True)
class AskedAgain:
    """A finding's question, answered anew. difference: the largest of any number; infinite where another was
    chosen, counted or told than then."""

    difference: float
    seconds: float


def ask_again(store: Store, finding: Finding) -> AskedAgain:
    """Fit, choose and measure once more, never from stored results.

    Raises HeadlampError where model or skills are not what they were, or the evidence is not complete.
    """
    ref, question, then = _recorded(store, finding)
    with opened(ref, store) as loaded:
        if loaded.fingerprint != finding.model_fingerprint:
            raise RecipeError(
                f"{finding.model_name} is no longer the model this finding was made with: fingerprint "
                f"{loaded.fingerprint[:12]}… now, {finding.model_fingerprint[:12]}… then; open the old folder"
            )
        started = time.perf_counter()
        now = fresh_methods(loaded, question)
        return AskedAgain(largest_difference(then, now), time.perf_counter() - started)


def _recorded(store: Store, finding: Finding) -> tuple[ModelRef, Question, list[Any]]:
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
    here = {source.digest: source for source in skill_library(store)}
    question = replace(
        asked,
        forget=_here(asked.forget, here),
        retain=tuple(_here(source, here) for source in asked.retain),
        other_language=tuple(_here(source, here) for source in asked.other_language),
        # whoever wrote the finding may not allow code to run uncontained here
        tests="contained" if asked.tests == "unsafe" else asked.tests,
    )
    return ref, question, then


def _here(source: SkillSource, here: Mapping[str, SkillSource]) -> SkillSource:
    """The same examples wherever they lie on this machine; else where they lay."""
    return replace(source, path=here[source.digest].path) if source.digest in here else source


def largest_difference(then: Any, now: Any) -> float:
    """Over all numbers of one JSON document and those at the same places of another; ≥ 0, infinite where a
    text, a truth value, a length or a kind differs. What only `now` tells does not count."""
    if isinstance(then, Mapping):
        same = isinstance(now, Mapping)
        return (
            max((largest_difference(v, now.get(k)) for k, v in then.items()), default=0.0)
            if same
            else math.inf
        )
    if isinstance(then, list):
        if not isinstance(now, list) or len(then) != len(now):
            return math.inf
        return max((largest_difference(a, b) for a, b in zip(then, now, strict=True)), default=0.0)
    if _is_number(then) and _is_number(now):
        difference = abs(float(then) - float(now))
        return math.inf if math.isnan(difference) else difference
    return 0.0 if type(then) is type(now) and then == now else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
