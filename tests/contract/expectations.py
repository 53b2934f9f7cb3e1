"""Comparing numbers, and which blocks of a model stand for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache

import torch
from torch import Tensor

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import Clamp, Scope
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel
from tests.contract.edits import IDS, POSITIONS, Seen, seen_at, watched, writer
from tests.contract.routes import routed_tokens

NEAR = 2e-4
"""Largest |difference| relative to the largest |value| between two float32 ways to the same number."""


class Broken(AssertionError):
    """A check that a model did not pass."""


def expect(fact: bool, what: str) -> None:
    """Raise Broken unless it is so."""
    if not fact:
        raise Broken(what)


def off(ours: Tensor, theirs: Tensor) -> float:
    """Largest |difference| relative to the largest |value| of theirs."""
    ours, theirs = ours.double().reshape(-1), theirs.double().reshape(-1)
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-9))


def expect_near(ours: Tensor, theirs: Tensor, what: str, near: float = NEAR) -> None:
    """Raise Broken unless two tensors agree."""
    expect(off(ours, theirs) <= near, f"{what}: off by {off(ours, theirs):.1e} of the largest value")


@lru_cache(maxsize=1)
def sample(loaded: LoadedModel) -> tuple[Block, ...]:
    """The last block of each kind that tokens reach: dense, routed, shared, gated or plain."""
    kinds: dict[tuple[bool, ...], Block] = {}
    for block in loaded.anatomy.blocks:
        kind = block.routed, block.address.shared, block.gated, block.fused
        if routed_tokens(block, seen_at(loaded.model, writer(block))):
            kinds[kind] = block
    return tuple(kinds.values())


def held(block: Block, neuron: int, site: str, mode: str, value: float | None = None) -> Clamp:
    """A clamp on one neuron, ready for use."""
    clamp = Clamp(NeuronAddress(block.address, neuron), site, mode, value, scope=Scope())  # type: ignore[arg-type]
    return clamp.resolve(largest=1.0, mean=0.5)


@torch.no_grad()
def under(
    loaded: LoadedModel, clamps: Sequence[Clamp], block: Block | None = None, row: int | None = None
) -> tuple[Tensor, list[Seen]]:
    """Logits (2, 6, V) under clamps, on one row or both, and what the block's writing module did."""
    rows = None if row is None else [[row]] * len(clamps)
    with ExitStack() as stack:
        stack.enter_context(intervene(loaded, clamps, positions=POSITIONS, rows=rows, prompt_length=6))
        seen = [] if block is None else stack.enter_context(watched(loaded.model, writer(block)))
        return loaded.model(input_ids=IDS, use_cache=False).logits, seen
