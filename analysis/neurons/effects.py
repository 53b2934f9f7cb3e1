"""Effect of clamping a neuron on the answer position, with matched random neurons (METHODS §2).

effect(t) = p_changed[t] − p_base[t] over a grid of values. A control is a random neuron of the same block
whose raw value is matched in |raw value|·‖w_down‖ at each grid point and which is given the SAME search:
both signs, the whole grid, the best kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import intervene
from analysis.opening.models import LoadedModel

GRID = tuple(sign * size for size in (1, 2, 3, 4, 6, 8, 10, 12, 14, 16) for sign in (1.0, -1.0))
"""Values tried, in × the neuron's largest |activation| on the reference text."""


@dataclass(frozen=True)
class ClampEffect:
    """A neuron clamped at one value (raw, and in × its largest activation) and its mean P(token)."""

    address: NeuronAddress
    value: float
    raw: float
    probability: float

    @property
    def clamp(self) -> Clamp:
        """Set the neuron's key site to the raw value at every position."""
        return Clamp(self.address, "key", "set", self.raw, "raw", raw=self.raw)


def measure_answer_probabilities(
    loaded: LoadedModel, ids: Sequence[int], clamps: Sequence[Clamp], token: int
) -> Tensor:
    """(1 + n,) P(token) after one prompt: base first, then under each clamp alone; one batch row each."""
    rows = 1 + len(clamps)
    fed = torch.tensor([list(ids)] * rows, device=loaded.device)
    positions = torch.arange(len(ids), device=loaded.device).expand(rows, -1)
    own_row = [[row] for row in range(1, rows)]
    with (
        intervene(loaded, clamps, positions=positions, prompt_length=len(ids), rows=own_row),
        torch.inference_mode(),
    ):
        logits = loaded.model(input_ids=fed, position_ids=positions, use_cache=False, logits_to_keep=1).logits
    p: Tensor = loaded.vocabulary.restrict(logits[:, -1]).cpu().double().softmax(-1)
    return p[:, token]


def search_value(
    loaded: LoadedModel,
    address: NeuronAddress,
    prompts: Sequence[Sequence[int]],
    token: int,
    *,
    values: Sequence[float],
    raws: Sequence[float],
) -> ClampEffect:
    """Search the value of a neuron with the largest mean P(token) over the prompts.

    values, raws: the grid in × the neuron's largest activation and in its own units, point by point.
    """
    held = [Clamp(address, "key", "set", raw, "raw", raw=raw) for raw in raws]
    mean = torch.stack([measure_answer_probabilities(loaded, ids, held, token)[1:] for ids in prompts]).mean(
        0
    )
    best = int(mean.argmax())
    return ClampEffect(address, values[best], raws[best], float(mean[best]))


def match_raws(
    loaded: LoadedModel, block: Block, neuron: int, control: int, raws: Sequence[float]
) -> list[float]:
    """Raw values at which a control writes as much as the neuron: equal |raw|·‖w_down‖ at each point."""
    norms = block.down.vectors(loaded.parameters).float().norm(dim=-1)
    ratio = float(norms[neuron] / norms[control].clamp(min=1e-12))
    return [raw * ratio for raw in raws]


def draw_controls(block: Block, neuron: int, count: int, seed: int) -> list[int]:
    """Other neurons of the same block, drawn without replacement; fewer if the block is smaller."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(block.d_ff, generator=generator).tolist()
    return [other for other in order if other != neuron][:count]


def search_controls(
    loaded: LoadedModel,
    lever: ClampEffect,
    prompts: Sequence[Sequence[int]],
    token: int,
    *,
    values: Sequence[float],
    raws: Sequence[float],
    count: int = 20,
    seed: int = 0,
) -> list[ClampEffect]:
    """The best value of each of `count` random neurons of the block, found by the same search as `lever`."""
    block, neuron = loaded.anatomy.block(lever.address), lever.address.neuron
    found = []
    for control in draw_controls(block, neuron, count, seed):
        matched = match_raws(loaded, block, neuron, control, raws)
        address = replace(lever.address, neuron=control)
        found.append(search_value(loaded, address, prompts, token, values=values, raws=matched))
    return found
