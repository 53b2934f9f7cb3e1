"""Which tokens each expert of a module saw in one call, read from what the module was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block


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


def without(
    block: Block, experts: int, inputs: Sequence[Tensor], where: Tensor
) -> tuple[int, Tensor, int] | None:
    """The router's weights with those of one expert set to 0: (which input they are, the new ones, tokens).

    where (T,): the tokens for which the expert shall count for nothing; `tokens` is how many of them it had.
    None where weights are no input of their own, because rows come laid out and weighted (see share_of).
    """
    share = share_of(block, experts, inputs)
    if share is None or (block.routed and len(inputs) == 1):
        return None
    number = block.address.expert
    if block.address.shared:
        place = next(i for i, t in enumerate(inputs) if i > 0 and t.is_floating_point())
        theirs = where[:, None] & (torch.arange(experts, device=where.device) == number)
    else:
        chosen = next(t for t in inputs[1:] if not t.is_floating_point() and t.dim() > 1)
        place = next(i for i, t in enumerate(inputs) if t.is_floating_point() and t.shape == chosen.shape)
        theirs = where[:, None] & (chosen.reshape(len(where), -1) == number)
    kept = inputs[place].masked_fill(theirs.reshape(inputs[place].shape), 0.0)
    return place, kept, int(theirs.any(-1).sum())
