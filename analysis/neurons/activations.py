"""Activations of neurons: over the whole reference text (streamed), and per token for one neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import CLAMP_SITES, ClampSite
from analysis.intervening.interventions import Observe, intervene
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.continuing import check_continues

METHOD_VERSION = "1"


@dataclass(frozen=True)
class BlockProfile:
    """Activation statistics of one block's neurons on a text, per site in the order of `CLAMP_SITES` (key,
    up, gate).

    largest, first_largest (3, m) float32: largest |activation| at positions ≥ 1, and at position 0.
    mean, deviation (3, m) float32 over positions ≥ 1; NaN where the block saw none.
    count: positions ≥ 1 that the block saw (all of them, or those routed to an expert).
    A plain block has no gate: its third row is NaN.
    """

    largest: Tensor
    first_largest: Tensor
    mean: Tensor
    deviation: Tensor
    count: int

    def __post_init__(self) -> None:
        shape = self.largest.shape
        if len(shape) != 2 or shape[0] != len(CLAMP_SITES) or self.mean.shape != shape:
            raise ValueError(f"a BlockProfile is (3, m) arrays, not {tuple(shape)}")

    def of(self, site: ClampSite, neuron: int) -> tuple[float, float, float]:
        """(largest |activation|, the same at position 0, mean) for one neuron at one site."""
        row = CLAMP_SITES.index(site)
        return tuple(float(a[row, neuron]) for a in (self.largest, self.first_largest, self.mean))  # type: ignore[return-value]


class _Tally:
    """Streaming maximum, mean and variance of one block; float64 sums, so that windows may be any size."""

    def __init__(self, block: Block) -> None:
        shape = (len(CLAMP_SITES), block.d_ff)
        self.largest = torch.zeros(shape)
        self.first_largest = torch.zeros(shape)
        self.total = torch.zeros(shape, dtype=torch.float64)
        self.square = torch.zeros(shape, dtype=torch.float64)
        self.count = 0
        self.gated = block.gated

    def add(self, site: ClampSite, values: Tensor, positions: Tensor) -> None:
        row = CLAMP_SITES.index(site)
        values, first = values.float().cpu(), (positions == 0).cpu()
        for part, into in ((values[~first], self.largest), (values[first], self.first_largest)):
            if len(part):
                into[row] = torch.maximum(into[row], part.abs().amax(0))
        rest = values[~first].double()
        self.total[row] += rest.sum(0)
        self.square[row] += rest.pow(2).sum(0)
        self.count += len(rest) if site == "key" else 0

    def profile(self) -> BlockProfile:
        mean = self.total / self.count if self.count else torch.full_like(self.total, torch.nan)
        variance = (self.square / max(self.count, 1) - mean.pow(2)).clamp(min=0)
        arrays = (self.largest, self.first_largest, mean.float(), variance.sqrt().float())
        if not self.gated:
            for array in arrays:
                array[CLAMP_SITES.index("gate")] = torch.nan
        return BlockProfile(*arrays, self.count)


def profile_blocks(
    loaded: LoadedModel,
    windows: Sequence[Sequence[int]],
    progress: Pulse = lambda done, total: None,
) -> list[BlockProfile]:
    """Profile every block of the model in one pass over the windows (token ids, one sequence each)."""
    blocks = loaded.anatomy.blocks
    tallies = {block.address: _Tally(block) for block in blocks}

    def see(block: Block, site: ClampSite, values: Tensor, rows: Tensor, positions: Tensor) -> None:
        tallies[block.address].add(site, values, positions)

    for done, window in enumerate(windows):
        read_through(loaded, window, Observe(blocks, see))
        progress(done + 1, len(windows))
    return [tallies[block.address].profile() for block in blocks]


def read_through(loaded: LoadedModel, ids: Sequence[int], *observers: Observe) -> None:
    """Run one forward pass over a sequence with observers attached; the logits are discarded."""
    check_continues(loaded)
    fed = torch.tensor([list(ids)], device=loaded.device)
    positions = torch.arange(len(ids), device=loaded.device)[None]
    with intervene(loaded, observers, positions=positions), torch.inference_mode():
        loaded.model(input_ids=fed, position_ids=positions, use_cache=False, logits_to_keep=1)


@dataclass(frozen=True)
class Firing:
    """One neuron on one text. values[site] (T,) float32, NaN at tokens its expert was not given."""

    ids: tuple[int, ...]
    values: dict[ClampSite, Tensor]


def neuron_firing(loaded: LoadedModel, address: NeuronAddress, ids: Sequence[int]) -> Firing:
    """Compute one neuron's activations along a sequence of token ids, at every site it has."""
    return neuron_firings(loaded, [address], ids)[address]


def neuron_firings(
    loaded: LoadedModel, addresses: Sequence[NeuronAddress], ids: Sequence[int]
) -> dict[NeuronAddress, Firing]:
    """The same of several neurons, in one pass."""
    blocks = {address.block: loaded.anatomy.block(address) for address in addresses}
    values = {
        address: {
            site: torch.full((len(ids),), torch.nan)
            for site in (CLAMP_SITES if blocks[address.block].gated else CLAMP_SITES[:2])
        }
        for address in addresses
    }

    def see(seen: Block, site: ClampSite, found: Tensor, rows: Tensor, positions: Tensor) -> None:
        for address, own in values.items():
            if address.block == seen.address:
                own[site][positions.cpu()] = found[:, address.neuron].float().cpu()

    read_through(loaded, ids, Observe(tuple(blocks.values()), see))
    return {address: Firing(tuple(int(i) for i in ids), own) for address, own in values.items()}
