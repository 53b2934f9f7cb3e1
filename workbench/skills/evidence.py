"""Keeping of a skill's boxes at one α as a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.skills.metrics import wilson_interval
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from store import Finding, Store
from workbench.keeping import describe_run, keep_evidence
from workbench.skills.key_space import KeySpaceQuestion


def keep_key_space(
    loaded: LoadedModel,
    store: Store,
    document: Mapping[str, Any],
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a `key_space_document` as a finding. Raises HeadlampError for a blank title."""
    return keep_evidence(loaded, store, "skill", document, title, note, tags)


def key_space_document(
    loaded: LoadedModel,
    question: KeySpaceQuestion,
    run: str,
    space: KeySpace,
    layers: Sequence[int],
    alpha: float,
    *,
    layer: int,
    tried: tuple[str, TriedQuery] | None = None,
) -> dict[str, Any]:
    """What the boxes of some layers refuse of each set at α, with 95 % intervals; and why they refuse one
    query or not.

    layer: the one whose keys are shown.
    """
    return {
        "run": run,
        "skill": question.skill.name,
        "digest": question.skill.digest,
        "compared": {source.name: source.digest for source in question.compared},
        "limit": question.limit,
        "seed": question.split_seed,
        "layer": layer,
        "layers": list(layers),
        "alpha": alpha,
        "probes": space.layers[layers[0]].box.n,
        "part": "validation",
        "sets": [
            _refused_document(name, share, count)
            for name, (share, count) in zip(space.names, space.count_refused(layers, alpha), strict=True)
        ],
        **({} if tried is None else _query(*tried, layers, alpha)),
        **describe_run(loaded),
    }


def _refused_document(name: str, share: float, count: int) -> dict[str, Any]:
    told = share if count else None
    return {"set": name, "queries": count, "refused": told, "interval": list(wilson_interval(share, count))}


def _query(text: str, tried: TriedQuery, layers: Sequence[int], alpha: float) -> dict[str, Any]:
    depth = max(tried.depth[layer] for layer in layers)
    return {
        "prompt": text,
        "query": {
            "depth": depth,
            "inside": depth <= alpha * SLACK,
            "neurons": {f"L{layer}.N{n}": out for layer in layers for n, out in tried.deciding[layer]},
        },
    }
