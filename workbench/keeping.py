"""Keeping of evidence as a finding of any kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from store import Finding, Store, keep_finding


def describe_run(loaded: LoadedModel) -> dict[str, Any]:
    """How a model was opened, and with which versions: what running a finding again needs besides its
    question.
    """
    return {
        "dtype": loaded.dtype,
        "device": loaded.ref.device,
        "revision": loaded.ref.revision,
        "versions": versions(),
    }


def keep_evidence(
    loaded: LoadedModel,
    store: Store,
    kind: str,
    evidence: Mapping[str, Any],
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep evidence of a kind, about this model. Raises HeadlampError for a blank title."""
    if not title.strip():
        raise HeadlampError("a finding needs a title; write in a few words what it shows")
    packed = {"weights": loaded.weights_format} if loaded.weights_format else {}
    return keep_finding(
        store,
        title=title.strip(),
        note=note,
        tags=tags,
        kind=kind,
        model_name=loaded.ref.name,
        model_fingerprint=loaded.fingerprint,
        evidence=dict(evidence) | packed,
    )
