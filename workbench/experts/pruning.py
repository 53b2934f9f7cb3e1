"""Prune and see: what a model loses without some experts, with random sets as controls (METHODS §3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from analysis.anatomy.addresses import BlockAddress, parse_part
from analysis.errors import ExpertError
from analysis.intervening.interventions import check_changes
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.recipes.recipes import write_recipe_document
from analysis.running import perplexity
from analysis.running.calibration import read_prefix_tokens, window_batches
from analysis.running.generation import Sampling, generate_steps
from analysis.running.perplexity import Estimate, estimate_effect, measure_repetition, measure_window_nll
from analysis.running.prompts import decode_answer
from analysis.super_experts.controls import DRAWS, Part, draw_sets, make_pruning
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.sinks import SinkSums, WatchSinks, measure_sink_decay
from store import RunSpec, Store, find_run, read_array, read_unit
from workbench.experts.profiles import ProfileTexts, read_windows
from workbench.kinds import Kind, Order, make_order
from workbench.runs import UnitResult, run_spec

PROMPT_TOKENS, NEW_TOKENS = 16, 60
"""Length of the sample's prompt, from the evaluation text, and of its greedy continuation, in tokens."""
GROUPS = ("pruned", "random", "same_layer")
Variant = tuple[str, ...]
_SINKS = tuple(one.name for one in fields(SinkSums))


def prune_order(
    loaded: LoadedModel,
    profile: ExpertProfile,
    parts: Sequence[Part],
    texts: ProfileTexts,
    *,
    spared: Sequence[BlockAddress] = (),
    draws: int = DRAWS,
    seed: int = 0,
) -> Order:
    """The order that evaluates the model unchanged, without the parts, and without random sets of the same
    size.

    spared: super experts, which are never drawn. Raises AddressOutOfRange, ExpertError.
    """
    if not parts:
        raise ExpertError("nothing to prune; name experts, such as L1.E68")
    check_changes(loaded, make_pruning(parts))
    groups = [
        [tuple(map(str, parts))],
        *(
            [
                tuple(map(str, one))
                for one in draw_sets(profile, parts, spared, draws=draws, seed=seed, same_layers=same)
            ]
            for same in (False, True)
        ),
    ]
    sizes = {"draws": draws, "prompt": PROMPT_TOKENS, "new_tokens": NEW_TOKENS}
    sets = [list(map(list, group)) for group in groups]
    return make_order(PRUNE, loaded.ref, groups=sets, **texts.evaluation_parameters, **sizes)


def pruning_recipe(loaded: LoadedModel, parts: Sequence[Part]) -> dict[str, Any]:
    """The recipe that prunes these parts, as JSON."""
    return write_recipe_document(loaded, make_pruning(parts))


def list_variants(asked: Mapping[str, Any]) -> list[Variant]:
    """Every set to evaluate, each once: none, the pruned one, the random ones."""
    sets = [tuple(one) for group in asked["groups"] for one in group]
    return list(dict.fromkeys([(), *sets]))


def prune_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that evaluates every set; one unit each."""
    read_windows(loaded, asked, evaluation=True)
    version = perplexity.METHOD_VERSION
    return run_spec(loaded, "prune", version, asked, units=len(list_variants(asked)))


def _prune_units(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    windows, variants = read_windows(loaded, asked, evaluation=True), list_variants(asked)
    together = window_batches(windows, asked["window"])
    sampled = {tuple(group[0]) for group in asked["groups"] if group}
    for index in units:
        changes = make_pruning([parse_part(part) for part in variants[index]])
        sinks, nll = WatchSinks(loaded), []
        for done, batch in enumerate(together):
            pulse(done, len(together))
            nll.append(measure_window_nll(loaded, batch, [*changes, sinks]))
        pulse(len(together), len(together))
        measured = sinks.sums()
        arrays = {name: getattr(measured, name) for name in _SINKS} | {"nll": np.concatenate(nll)}
        arrays["targets"] = np.array([len(window) - 1 for window in windows], np.int64)
        texts = (
            _continue_sample(loaded, asked, windows[0], variants[index], pulse)
            if variants[index] in sampled
            else {}
        )
        payload = {"parts": list(variants[index]), "texts": texts, "no_sinks": sinks.why_not}
        yield index, UnitResult(" ".join(variants[index]) or "as it is", arrays, payload)


def _continue_sample(
    loaded: LoadedModel, asked: Mapping[str, Any], window: Sequence[int], variant: Variant, pulse: Pulse
) -> dict[str, list[int]]:
    """Token ids of the sample, unchanged and pruned: two rows of one batch."""
    ids = window[: len(read_prefix_tokens(loaded)) + asked["prompt"]]
    ids = ids[: max(min(len(ids), loaded.anatomy.context - 1), 1)]
    rows: dict[str, list[int]] = {"base": [], "pruned": []}
    changes = make_pruning([parse_part(part) for part in variant])
    for step in generate_steps(loaded, ids, changes, Sampling(max_new_tokens=asked["new_tokens"])):
        pulse(0, 0)
        for row, token in zip(rows.values(), step.tokens, strict=True):
            row.extend([] if token is None else [token])
    return {"prompt": list(ids)} | rows


PRUNE = Kind(
    name="prune",
    unit="sets of experts",
    parameters=("text", "split", "window", "groups", "draws", "prompt", "new_tokens"),
    title=lambda asked: "Prune experts and see",
    spec=prune_spec,
    compute=_prune_units,
)


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
    variants = list_variants(asked)
    units = [_Unit(loaded, store, run, index) for index in range(len(variants))]
    base, by_variant = units[0], dict(zip(variants, units, strict=True))
    random, same = (tuple(by_variant[tuple(v)].against(base) for v in group) for group in asked["groups"][1:])
    first = by_variant[tuple(asked["groups"][0][0])]
    remarks = [f"Attention sinks were not measured: {first.no_sinks}."] if first.no_sinks else []
    for sets, where in ((random, "any layer"), (same, "the same layers")):
        if asked["draws"] and not sets:
            remarks.append(
                f"Too few others of {where} saw a token of the text to draw random sets of the same size, "
                "so there are no controls."
            )
    if len(base.nll) < 2:
        remarks.append("The evaluation text is a single window, so there are no intervals.")
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


class _Unit:
    """One stored set."""

    def __init__(self, loaded: LoadedModel, store: Store, run: str, index: int) -> None:
        self.loaded = loaded
        payload: dict[str, Any] = read_unit(store, run, index).payload
        self.parts: Variant = tuple(payload["parts"])
        self.texts: dict[str, list[int]] = payload["texts"]
        self.no_sinks: str = payload["no_sinks"]
        self.nll, self.targets = (read_array(store, run, index, name) for name in ("nll", "targets"))
        self.sinks = SinkSums(*(read_array(store, run, index, name) for name in _SINKS))

    def against(self, base: _Unit, ids: Sequence[int] | None = None) -> PruneEffect:
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
