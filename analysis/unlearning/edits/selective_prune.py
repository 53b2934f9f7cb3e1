"""Selective pruning, a baseline: neurons that fire more for the forget skill than for the others are set to
0.

Pochinkov and Schoots 2024, arXiv 2403.01267 (METHODS §4).

    score = mean |a|_forget / (mean |a|_retain + 1e-8)   at the key site; the top q % are zeroed
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.running.probing import Moments, Place
from analysis.unlearning.edits.site_edits import SiteEdit, attach_edit

METHOD_VERSION = "2"
EPSILON = 1e-8
SHARES = (0.05, 0.1, 0.2, 0.5, 1.5, 3.0, 6.0, 12.0, 24.0)
"""Candidate values of q, in %: the paper's (.5, 1.5, 3); smaller ones, since .1 % of SmolLM2, pruned, is
enough to forget capitals (split seed 1), and .5 % costs continents half (seed 0); larger ones for small
models, whose neurons serve several skills.
"""


@dataclass(frozen=True, eq=False)
class SelectivePrune:
    """The intervention: neurons (k,) int64 of some blocks are 0 at the key site. q: their share in %."""

    blocks: tuple[tuple[BlockAddress, Tensor], ...]
    q: float

    @property
    def count(self) -> int:
        """How many neurons are zeroed."""
        return sum(len(neurons) for _, neurons in self.blocks)

    def check(self, loaded: LoadedModel) -> None:
        """Raise AddressOutOfRange or SkillError for neurons this model does not have."""
        for address, neurons in self.blocks:
            check_neurons(loaded, address, neurons)

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching."""
        for address, neurons in self.blocks:
            block = step.loaded.anatomy.blocks[step.loaded.anatomy.index(address)]
            yield from attach_edit(step, SiteEdit(block, "key", neurons, _zero), rows)


def _zero(values: Tensor, row: Tensor, position: Tensor) -> Tensor:
    return torch.zeros_like(values)


def fit_selective_prune(
    loaded: LoadedModel,
    forget: Mapping[Place, Moments],
    retain: Mapping[Place, Moments],
    q: float,
    *,
    as_released: bool = False,
) -> SelectivePrune:
    """Zero the top q % of the model's neurons by score.

    Moments at the key site over all positions but 0; as_released: over all of them, and selected as
    `select_above_threshold` does. Raises SkillError for q outside (0, 100].
    """
    scores = [
        forget[b.address, "key"].magnitude / (retain[b.address, "key"].magnitude + EPSILON)
        for b in loaded.anatomy.blocks
    ]
    return prune_top_share(loaded, torch.cat(scores), q, as_released=as_released)


def draw_prune(loaded: LoadedModel, q: float, seed: int, *, as_released: bool = False) -> SelectivePrune:
    """The control: as many neurons as the top q %, drawn at random over the whole model."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(loaded.anatomy.neurons, generator=generator)
    return prune_top_share(loaded, scores, q, as_released=as_released)


def prune_top_share(
    loaded: LoadedModel, scores: Tensor, q: float, *, as_released: bool = False
) -> SelectivePrune:
    """Zero the q % of neurons with the highest scores (neurons,), in the order of the anatomy's blocks."""
    chosen = select_neurons(scores, q, as_released=as_released)
    blocks, start = [], 0
    for block in loaded.anatomy.blocks:
        own = torch.where(chosen[start : start + block.d_ff])[0]
        start += block.d_ff
        if len(own):
            blocks.append((block.address, own))
    return SelectivePrune(tuple(blocks), q)


def select_neurons(scores: Tensor, q: float, *, as_released: bool = False) -> Tensor:
    """(n,) bool: the q % highest finite scores, by count or, as released, by threshold.

    Raises SkillError for q outside (0, 100], or if that selects none.
    """
    if not 0 < q <= 100:
        raise SkillError(f"q {q} %: choose a share above 0 and up to 100, such as 1.5")
    return select_above_threshold(scores, q) if as_released else _select_top_share(scores, q)


def select_above_threshold(scores: Tensor, q: float) -> Tensor:
    """(n,) bool: finite scores ≥ the one at place int(n (1 − q/100)) in ascending order, ties included."""
    place = min(int(len(scores) * (1 - q / 100)), len(scores) - 1)
    return (scores >= scores.sort().values[place]) & scores.isfinite()


def _select_top_share(scores: Tensor, q: float) -> Tensor:
    wanted = min(round(q / 100 * len(scores)), int(torch.isfinite(scores).sum()))
    if not wanted:
        raise SkillError(f"q {q} % of {len(scores)} neurons selects none; choose a larger share")
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.argsort(descending=True, stable=True)[:wanted]] = True
    return chosen


def find_usable_shares(shares: Sequence[float], neurons: int) -> tuple[float, ...]:
    """The shares without those of SHARES that are less than half a neuron of a small model. Others stay, and
    so do all where none is left: they are refused by name.
    """
    found = tuple(q for q in shares if q not in SHARES or round(q / 100 * neurons))
    return found or tuple(shares)


def check_neurons(loaded: LoadedModel, address: BlockAddress, neurons: Tensor) -> None:
    """Raise AddressOutOfRange or SkillError if a block does not have these neurons (k,)."""
    block = loaded.anatomy.blocks[loaded.anatomy.index(address)]
    if len(neurons) and not 0 <= int(neurons.min()) <= int(neurons.max()) < block.d_ff:
        raise SkillError(f"block {address} has neurons N0–N{block.d_ff - 1}; these belong to another model")
