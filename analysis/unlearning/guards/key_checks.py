"""Keys checked by an each_step guard: of a prompt's last token, and of each answer token."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.intervening.clamps import ClampSite
from analysis.intervening.interventions import Observe
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH, make_batches, run_batch


def read_checked_keys(
    loaded: LoadedModel,
    sequences: Sequence[Sequence[int]],
    prompt_lengths: Sequence[int],
    blocks: Sequence[Block],
    *,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> tuple[Tensor, dict[BlockAddress, Tensor]]:
    """The keys of dense blocks from each prompt's last token on, in float32 on the CPU.

    sequences: token ids, prompt and answer. Returns (c,) which sequence each key is of, and
    (c, m) keys per block, by sequence and then by position.
    """
    seen: dict[BlockAddress, list[Tensor]] = {block.address: [] for block in blocks}
    sequence: list[Tensor] = []
    done = 0
    for batch in make_batches(loaded, sequences, prompt_lengths, size=batch_size):
        asked = batch.positions >= torch.tensor(batch.prompt_lengths, device=loaded.device)[:, None] - 1
        run_batch(loaded, batch, [_observer(blocks, seen, asked)])
        rows = torch.where(asked)[0].cpu()
        sequence.append(torch.tensor(batch.indices)[rows])
        done += len(batch.indices)
        pulse(done, len(sequences))
    owner = torch.cat(sequence)
    order = torch.argsort(owner, stable=True)
    return owner[order], {address: torch.cat(found)[order] for address, found in seen.items()}


def _observer(blocks: Sequence[Block], seen: dict[BlockAddress, list[Tensor]], asked: Tensor) -> Observe:
    def see(block: Block, site: ClampSite, values: Tensor, rows: Tensor, positions: Tensor) -> None:
        seen[block.address].append(values.float().cpu())

    return Observe(tuple(blocks), see, ("key",), asked)
