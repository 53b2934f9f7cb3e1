"""A comparison of two models as a finding: kept with its numbers, and decoded and compared again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.anatomy.anatomy import Site
from analysis.errors import RecipeError
from analysis.neurons.agreement import Agreement
from analysis.neurons.decoding import NeuronNorm
from analysis.opening.models import LoadedModel, ModelRef
from store import Finding, Store, open_store
from workbench.keeping import describe_run, keep_evidence
from workbench.models import open_model
from workbench.neurons.comparing import (
    ChangedNeuron,
    Comparison,
    compare_models,
    rank_changes,
    read_changed_neurons,
)
from workbench.neurons.rows import TokenScore
from workbench.records import read_record, write_record
from workbench.reruns import (
    MeasuredAgain,
    OpenedAs,
    explain_incomplete,
    find_largest_difference,
    open_unchanged,
    read_kept,
    read_ref,
)

KIND = "comparison"
"""The kind of such findings."""
LISTED = 50
"""Changed neurons that a finding holds."""


@dataclass(frozen=True)
class ComparedModel:
    """The other model of a comparison, as it was opened."""

    name: str
    revision: str | None
    fingerprint: str
    dtype: str | None
    device: str

    @property
    def ref(self) -> ModelRef:
        """To open it again."""
        return OpenedAs(self.device, self.dtype, self.revision).name(self.name)


@dataclass(frozen=True)
class ComparisonQuestion:
    """A site, a norm, and the model that is compared with the finding's own."""

    site: Site
    norm: NeuronNorm
    tuned: ComparedModel


def comparison_document(found: Comparison, changed: Sequence[ChangedNeuron]) -> dict[str, Any]:
    """What `compare --json` prints; changed: those to list."""
    return {
        "agreement": found.agreement.share,
        "neurons": len(found.base),
        "by_layer": [
            {"layer": row.layer, "agreement": row.share, "same": row.same, "neurons": row.neurons}
            for row in found.agreement.layers
        ],
        "changed_count": len(found.agreement.changed),
        "changed": [
            {
                "address": str(pair.base.address),
                "base": _label(pair.base.top[0]),
                "tuned": _label(pair.tuned.top[0]),
            }
            for pair in changed
        ],
    }


def keep_comparison(
    base: LoadedModel,
    tuned: LoadedModel,
    store: Store,
    found: Comparison,
    *,
    title: str,
    note: str = "",
    tags: Sequence[str] = (),
) -> Finding:
    """Keep a comparison, about the base model. Raises HeadlampError for a blank title."""
    evidence = {
        "run": found.base.run,
        "question": write_record(ComparisonQuestion(found.site, found.norm, _name_tuned(tuned))),
        "document": _measure(base, tuned, found) | {"verdict": describe_comparison(tuned, found)},
        **describe_run(base),
    }
    return keep_evidence(base, store, KIND, json.loads(json.dumps(evidence)), title, note, tags)


def describe_comparison(tuned: LoadedModel, found: Comparison) -> str:
    """What was found, in a sentence."""
    return (
        f"Of {len(found.base):,} neurons, {format_share(found)} have the same label at {found.site} in "
        f"{tuned.ref.name}{_describe_changes(found.agreement)}."
    )


def format_share(found: Comparison) -> str:
    """The share of neurons with the same label; 100.0% and 0.0% only where that is all of them, or none."""
    share, said = found.agreement.share, f"{found.agreement.share:.1%}"
    if said == "100.0%" and share < 1:
        return "over 99.9%"
    return "under 0.1%" if said == "0.0%" and share > 0 else said


def _describe_changes(agreement: Agreement) -> str:
    """How many labels changed, and in which layer most of them; layers need not have as many neurons."""
    changed = len(agreement.changed)
    most = max(row.neurons - row.same for row in agreement.layers)
    rows = [row for row in agreement.layers if row.neurons - row.same == most]
    if not changed:
        return ""
    if len(rows) > 1:
        return f"; {changed:,} changed, in no layer more than {most:,}"
    return f"; {changed:,} changed, most in layer {rows[0].layer} ({most:,} of its {rows[0].neurons:,})"


def compare_again(store: Store, finding: Finding) -> MeasuredAgain:
    """Decode both models again, never from stored results, and compare them.

    Raises HeadlampError if one of them changed or cannot be opened, or the evidence is incomplete.
    """
    with explain_incomplete():
        ref, kept = read_ref(finding), read_kept(finding)
        asked = read_record(ComparisonQuestion, kept.question)
        other = asked.tuned.ref
    with (
        open_unchanged(ref, finding, store) as base,
        open_model(other, store) as loaded,
        tempfile.TemporaryDirectory() as folder,
    ):
        if loaded.fingerprint != asked.tuned.fingerprint:
            raise RecipeError(
                f"{other.name} is no longer the model that was compared: its bytes changed; open the old "
                "folder"
            )
        started = time.perf_counter()
        fresh = open_store(Path(folder) / "fresh.db", reserve=False)
        try:
            found = compare_models(base, loaded, fresh, site=asked.site, norm=asked.norm)
            now = json.loads(json.dumps(_measure(base, loaded, found)))
        finally:
            fresh.close()
        return MeasuredAgain(
            find_largest_difference(kept.document, now, ("verdict",)), time.perf_counter() - started
        )


def _measure(base: LoadedModel, tuned: LoadedModel, found: Comparison) -> dict[str, Any]:
    return comparison_document(found, read_changed_neurons(base, tuned, found, rank_changes(found)[:LISTED]))


def _label(score: TokenScore) -> dict[str, Any]:
    return {"token_id": score.token_id, "token": score.token, "probability": score.probability}


def _name_tuned(tuned: LoadedModel) -> ComparedModel:
    ref = tuned.ref
    return ComparedModel(ref.name, ref.revision, tuned.fingerprint, tuned.dtype, ref.device)
