"""Comparison of a base and a tuned model: which neurons keep their label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.anatomy.anatomy import Site
from analysis.neurons.agreement import Agreement, check_comparable, compare_labels
from analysis.neurons.decoding import NeuronNorm
from analysis.opening.models import LoadedModel
from store import Store
from workbench.neurons.browsing import read_decoding_state
from workbench.neurons.decoding import DecodedModel, decode_model, read_decoded
from workbench.neurons.rows import DecodedNeuron, read_rows
from workbench.runs import Progress


@dataclass(frozen=True)
class Comparison:
    """Two models decoded at one site, and their label agreement."""

    site: Site
    norm: NeuronNorm
    base: DecodedModel
    tuned: DecodedModel
    agreement: Agreement


def not_decoded(
    base: LoadedModel, tuned: LoadedModel, store: Store, site: Site, norm: NeuronNorm
) -> list[LoadedModel]:
    """Which of the two models must be decoded before the comparison.

    Raises NotComparable, naming the differences.
    """
    check_comparable(base, tuned)
    return [loaded for loaded in (base, tuned) if not read_decoding_state(loaded, store, site, norm).finished]


def compare_models(
    base: LoadedModel,
    tuned: LoadedModel,
    store: Store,
    *,
    site: Site = "up",
    norm: NeuronNorm = "none",
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Decode both models if necessary, and compare their labels.

    Raises NotComparable, naming the differences.
    """
    check_comparable(base, tuned)
    decoded = []
    for loaded in (base, tuned):
        run = decode_model(loaded, store, site=site, norm=norm, progress=progress).run
        decoded.append(read_decoded(loaded, store, run.key, site))
    one, other = decoded
    found = compare_labels(one.layer, one.top_ids[:, 0], other.top_ids[:, 0])
    return Comparison(site, norm, one, other, found)


@dataclass(frozen=True)
class ChangedNeuron:
    """One neuron whose label differs, decoded in both models."""

    base: DecodedNeuron
    tuned: DecodedNeuron


def read_changed_neurons(
    base: LoadedModel, tuned: LoadedModel, found: Comparison, indices: Sequence[int]
) -> list[ChangedNeuron]:
    """The neurons at some indices in both models."""
    pairs = zip(read_rows(base, found.base, indices), read_rows(tuned, found.tuned, indices), strict=True)
    return [ChangedNeuron(one, other) for one, other in pairs]


def rank_changes(found: Comparison) -> list[int]:
    """Indices of the changed neurons, largest label probability in both models first."""
    changed = found.agreement.changed
    sure = found.base.probability(changed)[:, 0] * found.tuned.probability(changed)[:, 0]
    return [int(changed[i]) for i in (-sure).argsort(kind="stable")]
