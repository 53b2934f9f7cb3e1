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
from workbench.experts.profiles import ProfileTexts, read_evaluation_windows
from workbench.experts.questions import PruneQuestion, Variant, read_prune_question
from workbench.kinds import Kind, Order, make_order
from workbench.records import read_record, write_record
from workbench.runs import UnitResult, run_spec

PROMPT_TOKENS, NEW_TOKENS = 16, 60
"""Length of the sample's prompt, from the evaluation text, and of its greedy continuation, in tokens."""

SINKS = tuple(one.name for one in fields(SinkSums))
"""The arrays of a unit that hold its attention sinks."""


def check_pruning(loaded: LoadedModel, parts: Sequence[Part], texts: ProfileTexts) -> None:
    """Refuse parts and texts before the experts are profiled. parts: none where the profile will name them.

    Raises AddressOutOfRange, ExpertError, TextMissing, EmptyPrompt, TextError.
    """
    check_changes(loaded, make_pruning(parts))
    texts.find_evaluation_length(loaded)


def _check(loaded: LoadedModel, asked: Mapping[str, Any]) -> None:
    for variant in read_prune_question(asked).variants:
        check_changes(loaded, make_pruning([parse_part(part) for part in variant]))


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
    check_pruning(loaded, parts, texts)
    random, same_layer = (
        tuple(
            tuple(map(str, one))
            for one in draw_sets(profile, parts, spared, draws=draws, seed=seed, same_layers=same)
        )
        for same in (False, True)
    )
    question = PruneQuestion(
        text=texts.evaluation,
        split=texts.split,
        window=texts.question.window,
        groups=((tuple(map(str, parts)),), random, same_layer),
        draws=draws,
        prompt=PROMPT_TOKENS,
        new_tokens=NEW_TOKENS,
        length=texts.find_evaluation_length(loaded),
    )
    return make_order(PRUNE, loaded.ref, **question.document())


def pruning_recipe(loaded: LoadedModel, parts: Sequence[Part]) -> dict[str, Any]:
    """The recipe that prunes these parts, as JSON."""
    return write_recipe_document(loaded, make_pruning(parts))


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


def plan_evaluations(loaded: LoadedModel, asked: PruneQuestion) -> EvaluationPlan:
    """Count an order's evaluations; base is evaluated once and shared by all sets."""
    windows = read_evaluation_windows(loaded, asked, asked.length)
    tokens = sum(map(len, windows))
    return EvaluationPlan(len(asked.random), len(asked.same_layer), len(asked.variants), len(windows), tokens)


def prune_spec(loaded: LoadedModel, asked: Mapping[str, Any]) -> RunSpec:
    """The run that evaluates every set; one unit each."""
    question = read_prune_question(asked)
    read_evaluation_windows(loaded, question, question.length)
    version = perplexity.METHOD_VERSION
    return run_spec(loaded, "prune", version, question.document(), units=len(question.variants))


@dataclass(frozen=True)
class SampledTexts:
    """Token ids of the sample: its prompt, and its continuations."""

    prompt: tuple[int, ...]
    base: tuple[int, ...]
    pruned: tuple[int, ...]


@dataclass(frozen=True)
class EvaluatedParts:
    """What is stored of one set beside its arrays. texts: None where nothing was continued; no_sinks: why
    attention sinks were not measured, if so.
    """

    parts: Variant
    texts: SampledTexts | None
    no_sinks: str

    def to_document(self) -> dict[str, Any]:
        """As JSON; `read_parts` reads it."""
        return write_record(self) | ({"texts": {}} if self.texts is None else {})


def read_parts(document: Mapping[str, Any]) -> EvaluatedParts:
    """What `EvaluatedParts.to_document` wrote. Raises IncompleteRecord."""
    return read_record(EvaluatedParts, {**document, "texts": document["texts"] or None})


def compute_sets(
    loaded: LoadedModel, asked: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    """Evaluate the sets of these indices, of the question's `variants`."""
    question = read_prune_question(asked)
    windows = read_evaluation_windows(loaded, question, question.length)
    together = window_batches(windows, LONGEST if question.length else question.window)
    for index in units:
        variant = question.variants[index]
        changes = make_pruning([parse_part(part) for part in variant])
        sinks, nll = WatchSinks(loaded), []
        for done, batch in enumerate(together):
            pulse(done, len(together))
            nll.append(measure_window_nll(loaded, batch, [*changes, sinks]))
        pulse(len(together), len(together))
        measured = sinks.sums()
        arrays = {name: getattr(measured, name) for name in SINKS} | {"nll": np.concatenate(nll)}
        arrays["targets"] = np.array([len(window) - 1 for window in windows], np.int64)
        sampled = variant in question.sampled
        texts = _continue_sample(loaded, question, windows[0], variant, pulse) if sampled else None
        found = EvaluatedParts(variant, texts, sinks.why_not)
        yield index, UnitResult(" ".join(variant) or "as it is", arrays, found.to_document())


def _continue_sample(
    loaded: LoadedModel, asked: PruneQuestion, window: Sequence[int], variant: Variant, pulse: Pulse
) -> SampledTexts:
    """The sample, unchanged and pruned: two rows of one batch."""
    ids = window[: len(read_prefix_tokens(loaded)) + asked.prompt]
    ids = ids[: max(min(len(ids), loaded.anatomy.context - 1), 1)]
    base: list[int] = []
    pruned: list[int] = []
    changes = make_pruning([parse_part(part) for part in variant])
    for step in generate_steps(loaded, ids, changes, Sampling(max_new_tokens=asked.new_tokens)):
        pulse(0, 0)
        for row, token in zip((base, pruned), step.tokens, strict=True):
            row.extend([] if token is None else [token])
    return SampledTexts(tuple(ids), tuple(base), tuple(pruned))


PRUNE = Kind(
    name="prune",
    unit="sets of experts",
    parameters=("text", "split", "window", "groups", "draws", "prompt", "new_tokens"),
    title=lambda asked: "Prune experts and see",
    spec=prune_spec,
    compute=compute_sets,
    check=_check,
    defaults={"length": 0},
)
