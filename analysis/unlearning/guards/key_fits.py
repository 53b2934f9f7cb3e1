"""What a guard knows of a set of queries: boxes or Gaussians of their keys, streamed; keys are not stored."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import Tally
from analysis.skills.answering import answer_prompts
from analysis.skills.forms import select_fitting
from analysis.skills.items import SkillItem
from analysis.unlearning.guards.key_boxes import dense_block, fit_box
from analysis.unlearning.guards.key_checks import read_checked_keys
from analysis.unlearning.guards.key_gaussians import fit_gaussian
from analysis.unlearning.guards.key_guards import KeyGuard, KeySet, Measure
from analysis.unlearning.guards.key_places import KeyPlace, read_keys
from analysis.unlearning.guards.operating import Checks
from analysis.unlearning.guards.wrapping import list_wrappers


def encode_probes(loaded: LoadedModel, items: Sequence[SkillItem], *, wrap: bool) -> list[list[int]]:
    """Token ids of the prompts that fit into the context; wrap: and of each in one of the wrappers, in
    turn.
    """
    found = select_fitting(loaded, items)[1]
    forms = list_wrappers(loaded, items) if wrap else []
    for number, form in enumerate(forms):
        own = [item for item in items[number :: len(forms)] if item not in form.shots]
        with suppress(TooFewExamples):  # with examples before them all may be too long
            found += select_fitting(loaded, own, form)[1]
    return found


def fit_key_sets(
    loaded: LoadedModel,
    asked: Sequence[Sequence[int]],
    layers: Sequence[int],
    measure: Measure = "box",
    key: KeyPlace = "last",
    pulse: Pulse = lambda done, total: None,
) -> tuple[KeySet, ...]:
    """The boxes or Gaussians of some queries (token ids), one per layer. Raises TooFewExamples,
    SkillError.
    """
    blocks = [dense_block(loaded, layer) for layer in layers]
    tallies = {block.address: Tally(block.d_ff, loaded.device) for block in blocks}

    def take(place: int, address: BlockAddress, which: Tensor, keys: Tensor) -> None:
        tallies[address].add(keys)

    read_keys(loaded, asked, blocks, [key], take, pulse=pulse)
    fit = fit_box if measure == "box" else fit_gaussian
    return tuple(fit(layer, tallies[BlockAddress(layer)].moments()) for layer in layers)


def measure_checks(
    loaded: LoadedModel,
    asked: Sequence[Sequence[int]],
    guard: KeyGuard,
    pulse: Pulse = lambda done, total: None,
) -> Checks:
    """A prefill guard's one check of each query (token ids): its depths in every set, layer by layer."""
    numbers = {BlockAddress(box.layer): number for number, box in enumerate(guard.boxes)}
    blocks = [dense_block(loaded, box.layer) for box in guard.boxes]
    depths = torch.zeros(len(asked), len(blocks), 1 + len(guard.rivals))

    def take(place: int, address: BlockAddress, which: Tensor, keys: Tensor) -> None:
        depths[which, numbers[address]] = guard.measure_layer(numbers[address], keys).cpu()

    if asked:
        read_keys(loaded, asked, blocks, [guard.key], take, pulse=pulse)
    return Checks(depths, torch.arange(len(asked)), len(asked))


def measure_answer_checks(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    guard: KeyGuard,
    max_new_tokens: int,
    pulse: Pulse = lambda done, total: None,
) -> Checks:
    """An each_step guard's checks: of each prompt's last token and of every token of the model's answer."""
    kept, asked, _ = select_fitting(loaded, items)
    stops = [item.stop for item in kept]
    found = answer_prompts(loaded, asked, stops=stops, max_new_tokens=max_new_tokens, pulse=pulse)
    fed = [[*ids, *answer.token_ids[:-1]] for ids, answer in zip(asked, found, strict=True)]
    blocks = [dense_block(loaded, box.layer) for box in guard.boxes]
    query, keys = read_checked_keys(loaded, fed, [len(ids) for ids in asked], blocks, pulse=pulse)
    return Checks(guard.layer_depths([keys[block.address] for block in blocks]), query, len(asked))
