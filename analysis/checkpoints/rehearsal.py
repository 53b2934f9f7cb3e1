"""Placeholder weights, on which a model's parts are found and proven before its weights are available.

The location and function of blocks follow from the model's code and configuration, not from its weights.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import torch
from torch import Tensor

PERIOD = 1_000_003
"""Prime, so that no two rows of a weight are equal."""


def make_placeholder(name: str, like: Tensor) -> Tensor:
    """Random numbers of a parameter's shape and dtype, on the CPU, the same for one name in every process.

    A weight (…, d) preserves the scale of its input; a vector is near 1, a bias near 0, neither exactly,
    since zeros and ones hide errors.
    """
    start = zlib.crc32(name.encode()) % PERIOD
    noise = _noise().roll(-start)
    if like.dim() > 1:
        noise = noise * like.shape[-1] ** -0.5
    else:
        noise = noise * 0.1 + (0.0 if "bias" in name.rsplit(".", 1)[-1] else 1.0)
    noise = noise.to(like.dtype)
    out = torch.empty(like.shape, dtype=like.dtype)
    flat = out.view(-1)
    for begin in range(0, flat.numel(), PERIOD):
        part = flat[begin : begin + PERIOD]
        part.copy_(noise[: part.numel()])
    return out


@lru_cache(maxsize=1)
def _noise() -> Tensor:
    """(PERIOD,) standard normal."""
    return torch.randn(PERIOD, generator=torch.Generator().manual_seed(0))
