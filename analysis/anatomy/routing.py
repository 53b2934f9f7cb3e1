"""Routing: which tokens each expert of a module processed in one call, read from the module's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block


@dataclass(frozen=True)
class ExpertShare:
    """One expert's part of a call: n times a token.

    token, target (n,): row of the flattened batch, and of the module's output. x (n, d): what the expert
    read. weight (n, 1): the factor of its output. slot (n,): the expert's place among the router's choices
    for the token, 0 where there is no order.
    """

    token: Tensor
    target: Tensor
    x: Tensor
    weight: Tensor
    slot: Tensor


def read_share(block: Block, experts: int, inputs: Sequence[Tensor]) -> ExpertShare | None:
    """Read an expert's share in one of three ways of calling experts; None for any other.

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
        weights = floats[0].reshape(-1, experts)[:, number, None]
        return ExpertShare(every, every, hidden, weights, torch.zeros_like(every))
    if block.routed and len(inputs) == 1 and len(hidden) % experts == 0:
        tokens = len(hidden) // experts
        mine = hidden[number * tokens : (number + 1) * tokens]
        token = torch.where(mine.ne(0).any(-1))[0]
        ones = torch.ones_like(mine[token, :1])
        return ExpertShare(token, token + number * tokens, mine[token], ones, torch.zeros_like(token))
    return None


def _routed(hidden: Tensor, chosen: Tensor, floats: list[Tensor], number: int) -> ExpertShare | None:
    weights = next((t for t in floats if t.shape == chosen.shape), None)
    if weights is None or chosen.shape[:-1].numel() != len(hidden):
        return None
    k = chosen.shape[-1]
    token, slot = torch.where(chosen.reshape(-1, k) == number)
    return ExpertShare(token, token, hidden[token], weights.reshape(-1, k)[token, slot, None], slot)


def zero_weights(
    block: Block, experts: int, inputs: Sequence[Tensor], where: Tensor
) -> tuple[int, Tensor, int] | None:
    """The router's weights with one expert's set to 0: (index of the input, new weights, tokens).

    where (T,): the tokens for which the expert is removed; `tokens` is how many of them it had.
    None if weights are not a separate input, because rows arrive weighted (see share_of).
    """
    share = read_share(block, experts, inputs)
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
