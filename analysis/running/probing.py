"""Streaming count, mean and deviation of activations over many prompts; keys are not stored.

Sums are in float64, about the running mean, merged as in Chan, Golub and LeVeque, so the results equal
those over all values, whatever the batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import TooFewExamples
from analysis.intervening.clamps import ClampSite
from analysis.intervening.interventions import Observe
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH, Batch, make_batches, run_batch

METHOD_VERSION = "1"
Where = Literal["all", "all but first", "last"]
Place = tuple[BlockAddress, ClampSite]
CHUNK = 64
"""Rows summed at once on the CPU: so many of a wide block stay in its cache."""


@dataclass(frozen=True)
class Moments:
    """One site of one block over `count` values per neuron; all arrays (m,) float64 on the CPU.

    deviation: of the sample (n − 1), NaN where count < 2. magnitude: mean |value|. low, high: extremes.
    """

    count: int
    mean: Tensor
    deviation: Tensor
    magnitude: Tensor
    low: Tensor
    high: Tensor

    @property
    def population_variance(self) -> Tensor:
        """(m,) the mean squared distance from the mean (n, not n − 1)."""
        if self.count < 2:
            return torch.zeros_like(self.mean)
        return self.deviation.square() * ((self.count - 1) / self.count)


class Tally:
    """Streaming moments of one site."""

    def __init__(self, width: int, device: torch.device | None = None) -> None:
        self.count = 0
        self.mean, self.square, self.absolute = (
            torch.zeros(width, dtype=torch.float64, device=device) for _ in range(3)
        )
        self.low = torch.full_like(self.mean, torch.inf)
        self.high = torch.full_like(self.mean, -torch.inf)

    def add(self, values: Tensor) -> None:
        """Add values (n, m)."""
        if not len(values):
            return
        # amin and amax: on the CPU aminmax takes thirty times as long over the first dimension
        self.low = torch.minimum(self.low, values.amin(0).double())
        self.high = torch.maximum(self.high, values.amax(0).double())
        rows = min(len(values), CHUNK) if values.device.type == "cpu" else len(values)
        exact, room = (self.mean.new_empty(rows, len(self.mean)) for _ in range(2))
        ones = self.mean.new_ones(1, rows)
        for part in values.split(rows):
            n = len(part)
            self._sum(part, exact[:n], room[:n], ones[:, :n])

    def _sum(self, values: Tensor, exact: Tensor, room: Tensor, ones: Tensor) -> None:
        """Add values (n, m); exact. room (n, m): work space. A product with ones is the fastest sum."""
        total = self.count + len(values)
        exact.copy_(values)
        self.absolute += (ones @ torch.abs(exact, out=room))[0]
        shift = self.mean if self.count else (ones @ exact)[0] / total
        exact -= shift
        sums = (ones @ exact)[0]
        self.square += (ones @ exact.square_())[0] - sums.square() / total
        self.mean = shift + sums / total
        self.count = total

    def moments(self) -> Moments:
        """The moments of all values so far."""
        freedom = self.count - 1
        deviation = (self.square / freedom).sqrt() if freedom > 0 else torch.full_like(self.mean, torch.nan)
        arrays = (self.mean, deviation, self.absolute / max(self.count, 1), self.low, self.high)
        return Moments(self.count, *(array.cpu() for array in arrays))


def probe(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sites: Mapping[ClampSite, Sequence[Block]],
    *,
    where: Where = "last",
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> dict[Place, Moments]:
    """Moments of some sites of some blocks over prompts (token ids), in one pass.

    where: all positions, all but position 0, or only each prompt's last token. Raises TooFewExamples.
    """
    if not prompts:
        raise TooFewExamples("there is nothing to probe; give at least one example")
    tallies = {
        (block.address, site): Tally(block.d_ff, loaded.device)
        for site, blocks in sites.items()
        for block in blocks
    }
    done = 0
    for batch in make_batches(loaded, prompts, size=batch_size):
        run_batch(loaded, batch, [_observer(sites, tallies, where, batch)])
        done += len(batch.indices)
        pulse(done, len(prompts))
    return {place: tally.moments() for place, tally in tallies.items()}


def _observer(
    sites: Mapping[ClampSite, Sequence[Block]], tallies: Mapping[Place, Tally], where: Where, batch: Batch
) -> Observe:
    lengths = torch.tensor(batch.prompt_lengths, device=batch.positions.device)[:, None]
    first = lengths - 1 if where == "last" else torch.full_like(lengths, int(where == "all but first"))
    asked = batch.positions >= first

    def see(block: Block, site: ClampSite, values: Tensor, rows: Tensor, positions: Tensor) -> None:
        tally = tallies.get((block.address, site))
        if tally is not None:
            tally.add(values[positions >= first[rows, 0]] if block.fused else values)

    blocks = {block.address: block for found in sites.values() for block in found}
    return Observe(tuple(blocks.values()), see, tuple(sites), asked)


def last_keys(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    blocks: Sequence[Block],
    *,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> dict[BlockAddress, Tensor]:
    """(n, m) float32 key of each prompt's last token in some blocks, on the CPU, in the prompts' order."""
    keys = {block.address: torch.zeros(len(prompts), block.d_ff) for block in blocks}
    done = 0
    for batch in make_batches(loaded, prompts, size=batch_size):
        indices = torch.tensor(batch.indices)
        lengths = torch.tensor(batch.prompt_lengths, device=loaded.device)

        def see(
            block: Block,
            site: ClampSite,
            values: Tensor,
            rows: Tensor,
            positions: Tensor,
            indices: Tensor = indices,
            lengths: Tensor = lengths,
        ) -> None:
            if site == "key":
                last = positions == lengths[rows] - 1
                keys[block.address][indices[rows[last].cpu()]] = values[last].float().cpu()

        last = batch.positions == lengths[:, None] - 1
        run_batch(loaded, batch, [Observe(tuple(blocks), see, ("key",), last)])
        done += len(batch.indices)
        pulse(done, len(prompts))
    return keys
