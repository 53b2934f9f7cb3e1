"""Reports of pruning: base, pruned, and with random sets pruned; from stored units, or measured again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel
from analysis.running import perplexity
from analysis.running.perplexity import Estimate, estimate_effect, measure_repetition
from analysis.running.prompts import decode_answer
from analysis.super_experts.sinks import SinkSums, measure_sink_decay
from store import Store, find_run, read_array, read_unit
from workbench.experts.pruning import SINKS, compute_sets, prune_spec, read_parts
from workbench.experts.questions import PruneQuestion, Variant, read_prune_question
from workbench.kinds import Order
from workbench.runs import UnitResult

Array = np.ndarray[Any, Any]
FEW_WINDOWS = 10
"""With fewer windows than this, a bootstrap over them says little."""


@dataclass(frozen=True)
class Sample:
    """A continuation: its text, and the share of its 4-grams that repeat an earlier one; None: too short."""

    text: str
    repeated: float | None


@dataclass(frozen=True)
class PruneEffect:
    """The model without some parts. effect: Δ mean NLL, in nats per token.

    decay: per layer, None where no head has a sink; heads: how many have one. sample: None without one.
    """

    parts: Variant
    perplexity: Estimate
    effect: Estimate
    sinks: SinkSums
    decay: tuple[float | None, ...]
    heads: tuple[int, ...]
    sample: Sample | None

    def to_document(self) -> dict[str, Any]:
        """One set, as JSON."""
        return {
            "experts": list(self.parts),
            "perplexity": self.perplexity.value,
            "perplexity_interval": self.perplexity.interval,
            "delta_nll": self.effect.value,
            "delta_nll_interval": self.effect.interval,
            "sink_decay": list(self.decay),
            "text": None if self.sample is None else self.sample.text,
            "repeated": None if self.sample is None else self.sample.repeated,
        }


@dataclass(frozen=True)
class PruneReport:
    """The model unchanged, pruned, and with random sets of the same size pruned; windows, targets: of the
    evaluation.

    remarks: what the report lacks, and why.
    """

    base: PruneEffect
    pruned: PruneEffect
    random: tuple[PruneEffect, ...]
    same_layer: tuple[PruneEffect, ...]
    prompt: str
    windows: int
    targets: int
    remarks: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """Every set with its Δ mean NLL, and base and pruned sink masses by layer, as JSON."""
        base, pruned = self.base.sinks, self.pruned.sinks
        return {
            "pruned": list(self.pruned.parts),
            "windows": self.windows,
            "targets": self.targets,
            "prompt": self.prompt,
            "base": self.base.to_document(),
            "super": self.pruned.to_document(),
            "random": [one.to_document() for one in self.random],
            "same_layer": [one.to_document() for one in self.same_layer],
            "sink_mass": [
                {
                    "layer": layer,
                    "base": _finite_or_null(base.masses[layer]),
                    "super": _finite_or_null(pruned.masses[layer]),
                    "even": _finite_or_null(base.even[layer]),
                    "learned": _finite_or_null(base.learned_masses[layer]),
                    "heads_with_sink": self.pruned.heads[layer],
                }
                for layer in range(len(base.mass))
                if base.queries[layer].any()
            ],
            "sink_decay": list(self.pruned.decay),
            "remarks": list(self.remarks),
        }


def find_report(loaded: LoadedModel, store: Store, order: Order) -> PruneReport | None:
    """The stored report of this order, if any."""
    run = find_run(store, prune_spec(loaded, order.parameters).key)
    if run is None or not run.finished:
        return None
    return read_report(loaded, store, run.key, read_prune_question(order.parameters))


def read_report(loaded: LoadedModel, store: Store, run: str, asked: PruneQuestion) -> PruneReport:
    """A finished evaluation from the store."""
    names = ("nll", "targets", *SINKS)
    units = [
        UnitResult(
            "", {name: read_array(store, run, at, name) for name in names}, read_unit(store, run, at).payload
        )
        for at in range(len(asked.variants))
    ]
    return _report(loaded, units, asked)


def measure_report(loaded: LoadedModel, asked: PruneQuestion) -> PruneReport:
    """Evaluate every set now; nothing is read from the store or written to it."""
    indices = range(len(asked.variants))
    found = compute_sets(loaded, asked.document(), indices, lambda done, total: None)
    return _report(loaded, [unit for _, unit in found], asked)


def _report(loaded: LoadedModel, units: Sequence[UnitResult], asked: PruneQuestion) -> PruneReport:
    sets = [_EvaluatedSet(loaded, unit) for unit in units]
    base, by_variant = sets[0], dict(zip(asked.variants, sets, strict=True))
    random, same = (
        tuple(by_variant[one].against(base) for one in group) for group in (asked.random, asked.same_layer)
    )
    first = by_variant[asked.pruned]
    texts = first.texts
    if texts is None:
        raise HeadlampError("the stored pruning lacks its sample; delete its run, and request it again")
    return PruneReport(
        base.against(base, texts.base),
        first.against(base),
        random,
        same,
        decode_answer(loaded, texts.prompt),
        len(base.nll),
        int(base.targets.sum()),
        _list_remarks(asked, base, first),
    )


def _list_remarks(asked: PruneQuestion, base: _EvaluatedSet, first: _EvaluatedSet) -> tuple[str, ...]:
    """What a report lacks, and why."""
    remarks = [f"Attention sinks were not measured: {first.no_sinks}."] if first.no_sinks else []
    for drawn, where in ((asked.random, "any layer"), (asked.same_layer, "the same layers")):
        if asked.draws and not drawn:
            remarks.append(
                f"Too few others of {where} saw a token of the text to draw random sets of the same size, "
                "so there are no controls."
            )
    if len(base.nll) < 2:
        remarks.append("The evaluation text is a single window, so there are no intervals.")
    elif len(base.nll) < FEW_WINDOWS:
        remarks.append(
            f"The evaluation text is {len(base.nll)} windows, so the intervals are rough; give a longer "
            "text, or shorter windows."
        )
    return tuple(remarks)


class _EvaluatedSet:
    """One set's unit: its NLL per window, its sinks, and its sample."""

    def __init__(self, loaded: LoadedModel, unit: UnitResult) -> None:
        self.loaded = loaded
        stored = read_parts(unit.payload)
        self.parts, self.texts, self.no_sinks = stored.parts, stored.texts, stored.no_sinks
        self.nll: Array = unit.arrays["nll"]
        self.targets: Array = unit.arrays["targets"]
        self.sinks = SinkSums(*(unit.arrays[name] for name in SINKS))

    def against(self, base: _EvaluatedSet, ids: Sequence[int] | None = None) -> PruneEffect:
        """Its measurements relative to the unchanged model. ids: its sample, if not its own."""
        own = None if self.texts is None else self.texts.pruned
        sample = own if ids is None else ids
        decay, heads = measure_sink_decay(base.sinks, self.sinks)
        return PruneEffect(
            self.parts,
            perplexity.estimate_perplexity(self.nll, self.targets),
            estimate_effect(self.nll, base.nll, self.targets),
            self.sinks,
            tuple(decay),
            tuple(heads),
            None
            if sample is None
            else Sample(decode_answer(self.loaded, sample), measure_repetition(sample)),
        )


def _finite_or_null(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
