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
from analysis.running.calibration import LONGEST, read_prefix_tokens, window_batches
from analysis.running.generation import Sampling, generate_steps
from analysis.running.perplexity import measure_window_nll
from analysis.super_experts.controls import DRAWS, Part, draw_sets, make_pruning
from analysis.super_experts.profile import ExpertProfile
from analysis.super_experts.sinks import SinkSums, WatchSinks
from store import RunSpec
from workbench.experts.profiles import ProfileTexts, read_windows
from workbench.kinds import Kind, Order, make_order
from workbench.runs import UnitResult, run_spec

PROMPT_TOKENS, NEW_TOKENS = 16, 60
"""Length of the sample's prompt, from the evaluation text, and of its greedy continuation, in tokens."""

Variant = tuple[str, ...]
SINKS = tuple(one.name for one in fields(SinkSums))
"""The arrays of a unit that hold its attention sinks."""


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
    return make_order(PRUNE, loaded.ref, groups=sets, **texts.evaluation_parameters(loaded), **sizes)


def pruning_recipe(loaded: LoadedModel, parts: Sequence[Part]) -> dict[str, Any]:
    """The recipe that prunes these parts, as JSON."""
    return write_recipe_document(loaded, make_pruning(parts))


def list_variants(asked: Mapping[str, Any]) -> list[Variant]:
    """Every set to evaluate, each once: none, the pruned one, the random ones."""
    sets = [tuple(one) for group in asked["groups"] for one in group]
    return list(dict.fromkeys([(), *sets]))


@dataclass(frozen=True)
class EvaluationPlan:
    """What an order evaluates: sets drawn from all layers and from the same layers, distinct sets with base
    and the pruned one, and the windows and tokens that each reads.
    """

    random: int
    same_layer: int
    evaluations: int
    windows: int
    tokens: int


def plan_evaluations(loaded: LoadedModel, asked: Mapping[str, Any]) -> EvaluationPlan:
    """Count an order's evaluations; base is evaluated once and shared by all sets."""
    windows = read_windows(loaded, asked, evaluation=True)
    random, same = asked["groups"][1:]
    return EvaluationPlan(
        len(random), len(same), len(list_variants(asked)), len(windows), sum(map(len, windows))
    )


def prune_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that evaluates every set; one unit each."""
    read_windows(loaded, asked, evaluation=True)
    version = perplexity.METHOD_VERSION
    return run_spec(loaded, "prune", version, asked, units=len(list_variants(asked)))


def compute_sets(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    """Evaluate the sets of these indices, of `list_variants`."""
    windows, variants = read_windows(loaded, asked, evaluation=True), list_variants(asked)
    together = window_batches(windows, LONGEST if asked.get("length") else asked["window"])
    sampled = {tuple(group[0]) for group in asked["groups"] if group}
    for index in units:
        changes = make_pruning([parse_part(part) for part in variants[index]])
        sinks, nll = WatchSinks(loaded), []
        for done, batch in enumerate(together):
            pulse(done, len(together))
            nll.append(measure_window_nll(loaded, batch, [*changes, sinks]))
        pulse(len(together), len(together))
        measured = sinks.sums()
        arrays = {name: getattr(measured, name) for name in SINKS} | {"nll": np.concatenate(nll)}
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
    compute=compute_sets,
    defaults={"length": 0},
)
