"""Which tokens each expert of a module saw in one call, read from what the module was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy import Block


@dataclass(frozen=True)
class Share:
    """One expert's part of a call, n times a token.

    token, target (n,): row of the flattened batch, and of the module's output. x (n, d): what the expert
    read. weight (n, 1): what its answer is multiplied by.
    """

    token: Tensor
    target: Tensor
    x: Tensor
    weight: Tensor


def share_of(block: Block, experts: int, inputs: Sequence[Tensor]) -> Share | None:
    """An expert's share, by one of three ways of calling experts; None for any other.

    routed: hidden states (T, d), chosen experts (T, k), weights (T, k).
    always: hidden states (T, d) and the weight of each shared expert (T, E).
    laid out: an input row (E·T, d) for each expert and token, already weighted, zero where not routed.
    """
    number = block.address.expert
    hidden = inputs[0].reshape(-1, inputs[0].shape[-1])
    chosen = next((t for t in inputs[1:] if not t.is_floating_point() and t.dim() > 1), None)
    floats = [t for t in inputs[1:] if t.is_floating_point()]
    if number is None:
        return None
    if chosen is not None and block.routed:
        return _routed(hidden, chosen, floats, number)
    if (
        block.address.shared
        and len(floats) == 1
        and floats[0].shape[-1] == experts
        and floats[0].numel() == len(hidden) * experts
    ):
        every = torch.arange(len(hidden), device=hidden.device)
        return Share(every, every, hidden, floats[0].reshape(-1, experts)[:, number, None])
    if block.routed and len(inputs) == 1 and len(hidden) % experts == 0:
        tokens = len(hidden) // experts
        mine = hidden[number * tokens : (number + 1) * tokens]
        token = torch.where(mine.ne(0).any(-1))[0]
        return Share(token, token + number * tokens, mine[token], torch.ones_like(mine[token, :1]))
    return None


def _routed(hidden: Tensor, chosen: Tensor, floats: list[Tensor], number: int) -> Share | None:
    weights = next((t for t in floats if t.shape == chosen.shape), None)
    if weights is None or chosen.shape[:-1].numel() != len(hidden):
        return None
    k = chosen.shape[-1]
    token, slot = torch.where(chosen.reshape(-1, k) == number)
    return Share(token, token, hidden[token], weights.reshape(-1, k)[token, slot, None])
