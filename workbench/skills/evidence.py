"""Keep what a skill's boxes do at one α as a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.opening.models import LoadedModel
from analysis.recipes.recipes import versions
from analysis.skills.metrics import wilson
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from store import Finding, Store
from workbench.keeping import keep
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
    """Freeze a `key_space_document`. Raises HeadlampError for a blank title."""
    return keep(loaded, store, "skill", document, title, note, tags)


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
    """What the boxes of some layers refuse of each set at α, with 95 % intervals; and of one query, why.

    layer: the one whose keys were looked at.
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
            _refused(name, share, count)
            for name, (share, count) in zip(space.names, space.refused(layers, alpha), strict=True)
        ],
        **({} if tried is None else _query(*tried, layers, alpha)),
        "dtype": loaded.dtype,
        "device": loaded.ref.device,
        "revision": loaded.ref.revision,
        "versions": versions(),
    }


def _refused(name: str, share: float, count: int) -> dict[str, Any]:
    told = share if count else None
    return {"set": name, "queries": count, "refused": told, "interval": list(wilson(share, count))}


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
