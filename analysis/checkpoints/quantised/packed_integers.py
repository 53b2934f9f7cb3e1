"""Small integers packed into words of 32 bits without gaps, the first in the lowest bits."""

from __future__ import annotations

import torch
from torch import Tensor

WORD = 32
"""Bits of a word."""


def unpack_integers(words: Tensor, bits: int, count: int | None = None) -> Tensor:
    """The integers (…, n) of words (…, w) int32, n = ⌊32 w / bits⌋ or `count`, from 0 to 2^bits − 1, int32.

    Integers may lie across two words, as those of 3 bits do.
    """
    count = words.shape[-1] * WORD // bits if count is None else count
    first = torch.arange(count, device=words.device) * bits
    index, shift = first // WORD, (first % WORD).to(torch.int64)
    wide = words.to(torch.int64) & 0xFFFFFFFF
    found = wide[..., index] >> shift
    if WORD % bits:
        following = wide[..., (index + 1).clamp(max=words.shape[-1] - 1)]
        found = found | (following << (WORD - shift))
    return (found & ((1 << bits) - 1)).to(torch.int32)
