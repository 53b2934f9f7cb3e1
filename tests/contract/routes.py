"""Where a token goes: read from what an experts module was given, apart from the app's own reading."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block
from tests.contract.edits import LENGTH, ROWS, Seen

TOKENS = ROWS * LENGTH


def place(block: Block, token: int) -> int:
    """The row of the flattened states that a token of the batch has: row 0's tokens first, then row 1's."""
    row, position = divmod(token, LENGTH)
    return position * ROWS + row if block.time_first else token


def routed_tokens(block: Block, seen: Seen) -> dict[int, float]:
    """Token → weight of what the block writes for it, of the tokens the block sees at all."""
    if not block.fused:
        return dict.fromkeys(range(TOKENS), 1.0)
    expert = block.address.expert
    whole = [t for t in seen.given if not t.is_floating_point() and t.dim() > 1]
    if whole and not block.address.shared:
        chosen = whole[0].reshape(TOKENS, -1)
        weights = next(t for t in seen.given if t.is_floating_point() and t.shape == whole[0].shape)
        mine = chosen.eq(-1 if expert is None else expert)
        sums = (weights.reshape(TOKENS, -1) * mine).sum(-1)
        return {token: float(sums[token]) for token in torch.where(mine.any(-1))[0].tolist()}
    if block.address.shared:
        return {t: float(w) for t, w in enumerate(seen.given[1].reshape(TOKENS, -1)[:, expert])}
    rows = seen.given[0].reshape(-1, TOKENS, seen.given[0].shape[-1])[expert]
    return dict.fromkeys(torch.where(rows.abs().sum(-1) > 0)[0].tolist(), 1.0)


def read_by(block: Block, seen: Seen, token: int) -> Tensor:
    """(d,) what the block reads for a token."""
    return _row(block, seen.given[0], token)


def written_for(block: Block, seen: Seen, token: int) -> Tensor:
    """(d,) the row of the writing module's output that a token's value goes into."""
    return _row(block, seen.gave, token)


def _row(block: Block, states: Tensor, token: int) -> Tensor:
    rows = states.reshape(-1, states.shape[-1])
    if len(rows) > TOKENS:
        assert block.address.expert is not None
        return rows[block.address.expert * TOKENS + token]
    return rows[place(block, token)]
