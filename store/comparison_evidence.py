"""Evidence of a comparison of two models, for pages; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.odd_fields import read_field, read_list, read_map, read_number

Label = tuple[str, float | None]
"""A neuron's top token and its probability."""


@dataclass(frozen=True)
class KeptLayer:
    """A layer's share of neurons with the same label in both models, in [0, 1]; None: unknown."""

    layer: float | None
    share: float | None
    neurons: float | None


@dataclass(frozen=True)
class ComparisonView:
    """The readable part. changed: address, label in the base, label in the tuned model."""

    tuned: str
    site: str
    norm: str
    layers: tuple[KeptLayer, ...]
    changed: tuple[tuple[str, Label, Label], ...]


def read_comparison(evidence: Mapping[str, Any]) -> ComparisonView:
    """The comparison in a finding's evidence. Never raises."""
    document, asked = read_map(evidence.get("document")), read_map(evidence.get("question"))
    layers = map(read_map, read_list(document.get("by_layer")))
    changed = map(read_map, read_list(document.get("changed")))
    return ComparisonView(
        tuned=read_field(read_map(asked.get("tuned")).get("name")),
        site=read_field(asked.get("site")),
        norm=read_field(asked.get("norm")),
        layers=tuple(
            KeptLayer(*(read_number(row.get(name)) for name in ("layer", "agreement", "neurons")))
            for row in layers
        ),
        changed=tuple(
            (read_field(row.get("address")), _label(row.get("base")), _label(row.get("tuned")))
            for row in changed
        ),
    )


def _label(given: object) -> Label:
    row = read_map(given)
    return read_field(row.get("token")), read_number(row.get("probability"))
