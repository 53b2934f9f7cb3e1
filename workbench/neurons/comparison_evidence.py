"""A comparison of two models as a finding: kept with its numbers, and decoded and compared again."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.anatomy.anatomy import SITES
from analysis.errors import RecipeError
from analysis.neurons.agreement import Agreement
from analysis.neurons.decoding import NORMS
from analysis.opening.models import LoadedModel
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
from workbench.reruns import (
    MeasuredAgain,
    explain_incomplete,
    find_largest_difference,
    make_ref,
    open_unchanged,
    read_ref,
)

KIND = "comparison"
"""The kind of such findings."""
LISTED = 50
"""Changed neurons that a finding holds."""


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
        "question": {
            "site": found.site,
            "norm": found.norm,
            "tuned": {
                "name": tuned.ref.name,
                "revision": tuned.ref.revision,
                "fingerprint": tuned.fingerprint,
                "dtype": tuned.dtype,
                "device": tuned.ref.device,
            },
        },
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
        ref, asked = read_ref(finding), dict(finding.evidence["question"])
        then, tuned = dict(finding.evidence["document"]), asked["tuned"]
        other, fingerprint = make_ref(tuned["name"], tuned), tuned["fingerprint"]
        site, norm = SITES[SITES.index(asked["site"])], NORMS[NORMS.index(asked["norm"])]
    with (
        open_unchanged(ref, finding, store) as base,
        open_model(other, store) as loaded,
        tempfile.TemporaryDirectory() as folder,
    ):
        if loaded.fingerprint != fingerprint:
            raise RecipeError(
                f"{other.name} is no longer the model that was compared: its bytes changed; open the old "
                "folder"
            )
        started = time.perf_counter()
        fresh = open_store(Path(folder) / "fresh.db", reserve=False)
        try:
            found = compare_models(base, loaded, fresh, site=site, norm=norm)
            now = json.loads(json.dumps(_measure(base, loaded, found)))
        finally:
            fresh.close()
        return MeasuredAgain(find_largest_difference(then, now, ("verdict",)), time.perf_counter() - started)


def _measure(base: LoadedModel, tuned: LoadedModel, found: Comparison) -> dict[str, Any]:
    return comparison_document(found, read_changed_neurons(base, tuned, found, rank_changes(found)[:LISTED]))


def _label(score: TokenScore) -> dict[str, Any]:
    return {"token_id": score.token_id, "token": score.token, "probability": score.probability}
