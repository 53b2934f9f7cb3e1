"""Evidence of a pruning, for pages and exports; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.odd_fields import read_field, read_list, read_map, read_number

SET_COLUMNS = ("", "experts", "perplexity", "Δ NLL")
_GROUPS = {"base": "base", "super": "pruned", "random": "random", "same_layer": "random, same layers"}
"""Field of a document → the name of its sets."""


@dataclass(frozen=True)
class PrunedSet:
    """The model without some experts. delta_nll: in nats a token, against base; None: not known."""

    group: str
    experts: str
    perplexity: float | None
    delta_nll: float | None

    def cells(self) -> tuple[object, ...]:
        """Its row under SET_COLUMNS: texts, numbers, and None."""
        return (self.group, self.experts or "–", self.perplexity, self.delta_nll)


def read_pruned_sets(evidence: Mapping[str, Any]) -> tuple[PrunedSet, ...]:
    """Every set of a pruning, base first; none for evidence of another kind. Never raises."""
    document = read_map(evidence.get("document"))
    if "pruned" not in document:
        return ()
    return tuple(
        PrunedSet(
            name,
            ", ".join(map(read_field, read_list(one.get("experts")))),
            read_number(one.get("perplexity")),
            read_number(one.get("delta_nll")),
        )
        for field, name in _GROUPS.items()
        for one in map(read_map, _as_list(document.get(field)))
    )


def _as_list(value: object) -> list[Any]:
    return [value] if isinstance(value, Mapping) else read_list(value)
