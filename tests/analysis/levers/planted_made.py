"""Tiny random models in which one neuron of the last layer writes what the head reads as one word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from analysis.anatomy.addresses import NeuronAddress, parse_address
from analysis.intervening.clamps import parse_scope
from analysis.levers.bench import WordPrompt
from analysis.levers.levers import WordQuestion
from analysis.levers.readings import WordReader
from analysis.opening.models import LoadedModel
from tests.analysis.conftest import loaded_from, tiny_model, tiny_tokenizer
from tests.analysis.levers.rows_made import clamp

DOG = 5
WORDS = [" of", " and", " in", " to", " was", " with", " for", " on", " at", " it"]
"""Words of the neutral text, so that its windows differ."""
LENGTH = 9


def build_wide(family: str, seed: int = 0, **changed: Any) -> LoadedModel:
    """A random model of two layers, so wide that random neurons have little to do with a word."""
    width = {"gpt2": {"n_embd": 64}}.get(family, {"hidden_size": 64, "head_dim": 16})
    model = tiny_model(family, seed, **width, **changed)
    return loaded_from(model, tiny_tokenizer(WORDS))


def plant(loaded: LoadedModel, address: str, size: float = 1.0) -> NeuronAddress:
    """Make a neuron write a word's row of the head, through the final norm."""
    neuron = parse_address(address)
    assert isinstance(neuron, NeuronAddress)
    row = loaded.model.get_output_embeddings().weight[DOG] * loaded.anatomy.final_norm.scale(
        loaded.parameters
    )
    if loaded.anatomy.final_norm.kind == "layer":
        row = row - row.mean()
    block = loaded.anatomy.block(neuron)
    if block.post_norm is not None:
        row = row / block.post_norm.scale(loaded.parameters)
    block.down.vectors(loaded.parameters)[neuron.neuron] = size * row / row.norm()
    return neuron


def list_prompts(count: int, seed: int = 1) -> list[WordPrompt]:
    """Random prompts behind which the word is due."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(6, 90, (count, LENGTH), generator=generator)
    return [WordPrompt((1, *row), ((DOG,),)) for row in ids.tolist()]


def split_by_expert(
    loaded: LoadedModel, layer: int, count: int = 200
) -> tuple[str, list[WordPrompt], list[WordPrompt]]:
    """An expert of a layer, prompts whose last position is routed to it, and others."""
    blocks = [block for block in loaded.anatomy.blocks if block.address.layer == layer and block.routed]
    used: dict[str, list[bool]] = {str(block.address): [] for block in blocks}
    prompts = list_prompts(count)
    for prompt in prompts:
        reader = WordReader(loaded, prompt.ids, prompt.spellings, parse_scope("last"))
        acted = reader.read([(clamp(f"{name}.N0:set:1@last"),) for name in used]).acted.tolist()
        for name, one in zip(used, acted, strict=True):
            used[name].append(bool(one))
    name = min(used, key=lambda one: abs(sum(used[one]) - count / 2))
    pairs = list(zip(prompts, used[name], strict=True))
    return name, [one for one, yes in pairs if yes], [one for one, yes in pairs if not yes]


def ask(
    select: Sequence[WordPrompt],
    held_out: Sequence[WordPrompt],
    other: Sequence[WordPrompt] = (),
    **changed: Any,
) -> WordQuestion:
    """A question about the word, without labels."""
    return WordQuestion(tuple(select), tuple(held_out), tuple(other), changed.pop("labelled", {}), **changed)
