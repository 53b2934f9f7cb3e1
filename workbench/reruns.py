"""What all kinds of findings share when they are measured again: the model, unchanged, and the difference."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from analysis.errors import HeadlampError, RecipeError
from analysis.opening.models import LoadedModel, ModelRef
from store import Finding, Store
from workbench.models import open_model
from workbench.records import read_record


@dataclass(frozen=True)
class MeasuredAgain:
    """A finding's question, answered again. difference: the largest over all numbers; infinite if anything
    but a number differs.
    """

    difference: float
    seconds: float


@contextmanager
def explain_incomplete() -> Iterator[None]:
    """Evidence that lacks something, or holds something else, is a HeadlampError that says what."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise HeadlampError(
            f"this finding's evidence is not complete enough to run again: {type(error).__name__} {error}"
        ) from error


@dataclass(frozen=True)
class KeptAnswer:
    """A finding's question as its job's parameters, and the answer to it then."""

    question: Mapping[str, Any]
    document: Mapping[str, Any]


def read_kept(finding: Finding) -> KeptAnswer:
    """What a finding asked and found; to be read within `explain_incomplete`."""
    return read_record(KeptAnswer, finding.evidence)


@dataclass(frozen=True)
class OpenedAs:
    """How evidence says that a model was opened; without a dtype it is chosen by the device."""

    device: str
    dtype: str | None = None
    revision: str | None = None

    def name(self, name: str) -> ModelRef:
        """The model of this name, opened so."""
        return ModelRef(name, revision=self.revision, device=self.device, dtype=self.dtype or "auto")


def read_ref(finding: Finding) -> ModelRef:
    """The model a finding was measured with, as it was opened; to be read within `explain_incomplete`."""
    return read_record(OpenedAs, finding.evidence).name(finding.model_name)


@contextmanager
def open_unchanged(ref: ModelRef, finding: Finding, store: Store) -> Iterator[LoadedModel]:
    """A finding's model. Raises RecipeError if its bytes are no longer those it was made with."""
    with open_model(ref, store) as loaded:
        if loaded.fingerprint != finding.model_fingerprint:
            raise RecipeError(
                f"{finding.model_name} is no longer the model this finding was made with: fingerprint "
                f"{loaded.fingerprint[:12]}… now, {finding.model_fingerprint[:12]}… then; open the old folder"
            )
        yield loaded


def find_largest_difference(then: Any, now: Any, left_out: Collection[str] = ()) -> float:
    """The largest difference over all numbers at the same places of two JSON documents; ≥ 0, infinite if a
    text, a truth value, a length or a type differs. Keys that only `now` has are ignored, and those left out.

    Raises HeadlampError where `then` has no number to compare.
    """
    if not any(True for _ in _list_numbers(then)):
        raise HeadlampError("this finding's evidence holds no number, so there is nothing to compare")
    return _find_difference(then, now, left_out)


def _list_numbers(document: Any) -> Iterator[float]:
    if _is_number(document):
        yield float(document)
    parts = document.values() if isinstance(document, Mapping) else document
    for part in parts if isinstance(document, Mapping | list) else ():
        yield from _list_numbers(part)


def _find_difference(then: Any, now: Any, left_out: Collection[str]) -> float:
    if isinstance(then, Mapping):
        if not isinstance(now, Mapping):
            return math.inf
        kept = [(value, now.get(key)) for key, value in then.items() if key not in left_out]
        return max((_find_difference(*pair, left_out) for pair in kept), default=0.0)
    if isinstance(then, list):
        if not isinstance(now, list) or len(then) != len(now):
            return math.inf
        pairs = zip(then, now, strict=True)
        return max((_find_difference(*pair, left_out) for pair in pairs), default=0.0)
    if _is_number(then) and _is_number(now):
        difference = abs(float(then) - float(now))
        return math.inf if math.isnan(difference) else difference
    return 0.0 if type(then) is type(now) and then == now else math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
