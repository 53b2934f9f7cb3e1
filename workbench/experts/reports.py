"""Reports of pruning: base, pruned, and with random sets pruned; from stored units, or measured again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.opening.models import LoadedModel
from analysis.running import perplexity
from analysis.running.perplexity import Estimate, estimate_effect, measure_repetition
from analysis.running.prompts import decode_answer
from analysis.super_experts.sinks import SinkSums, measure_sink_decay
from store import Store, find_run, read_array, read_unit
from workbench.experts.pruning import SINKS, Variant, compute_sets, list_variants, prune_spec
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


def find_report(loaded: LoadedModel, store: Store, order: Order) -> PruneReport | None:
    """The stored report of this order, if any."""
    run = find_run(store, prune_spec(loaded, order.parameters).key)
    return None if run is None or not run.finished else read_report(loaded, store, run.key, order.parameters)


def read_report(loaded: LoadedModel, store: Store, run: str, asked: Mapping[str, Any]) -> PruneReport:
    """A finished evaluation from the store."""
    names = ("nll", "targets", *SINKS)
    units = [
        UnitResult(
            "", {name: read_array(store, run, at, name) for name in names}, read_unit(store, run, at).payload
        )
        for at in range(len(list_variants(asked)))
    ]
    return _report(loaded, units, asked)


def measure_report(loaded: LoadedModel, asked: Mapping[str, Any]) -> PruneReport:
    """Evaluate every set now; nothing is read from the store or written to it."""
    indices = range(len(list_variants(asked)))
    units = [unit for _, unit in compute_sets(loaded, asked, indices, lambda done, total: None)]
    return _report(loaded, units, asked)


def _report(loaded: LoadedModel, units: Sequence[UnitResult], asked: Mapping[str, Any]) -> PruneReport:
    sets = [_EvaluatedSet(loaded, unit) for unit in units]
    base, by_variant = sets[0], dict(zip(list_variants(asked), sets, strict=True))
    random, same = (tuple(by_variant[tuple(v)].against(base) for v in group) for group in asked["groups"][1:])
    first = by_variant[tuple(asked["groups"][0][0])]
    remarks = [f"Attention sinks were not measured: {first.no_sinks}."] if first.no_sinks else []
    for drawn, where in ((random, "any layer"), (same, "the same layers")):
        if asked["draws"] and not drawn:
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
    return PruneReport(
        base.against(base, first.texts.get("base")),
        first.against(base),
        random,
        same,
        decode_answer(loaded, first.texts["prompt"]),
        len(base.nll),
        int(base.targets.sum()),
        tuple(remarks),
    )


class _EvaluatedSet:
    """One set's unit: its NLL per window, its sinks, and its sample."""

    def __init__(self, loaded: LoadedModel, unit: UnitResult) -> None:
        self.loaded = loaded
        self.parts: Variant = tuple(unit.payload["parts"])
        self.texts: dict[str, list[int]] = unit.payload["texts"]
        self.no_sinks: str = unit.payload["no_sinks"]
        self.nll: Array = unit.arrays["nll"]
        self.targets: Array = unit.arrays["targets"]
        self.sinks = SinkSums(*(unit.arrays[name] for name in SINKS))

    def against(self, base: _EvaluatedSet, ids: Sequence[int] | None = None) -> PruneEffect:
        """Its measurements relative to the unchanged model. ids: its sample, if not its own."""
        sample = self.texts.get("pruned") if ids is None else ids
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
