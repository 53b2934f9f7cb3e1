"""Counter-based uniform random numbers: independent of how prompts are batched.

Each draw hashes (seed, example, position, layer, neuron) by the finaliser of SplitMix64 (Steele, Lea and
Flood 2014), once per counter.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def draw_uniform(*counters: Tensor | int) -> Tensor:
    """float64 in [0, 1) for whole numbers that broadcast against one another; 53 random bits."""
    state = torch.zeros((), dtype=torch.int64)
    for counter in counters:
        given = torch.as_tensor(counter, dtype=torch.int64)
        state = state.to(given.device)
        state = _mix((state ^ given) + _to_signed(_GOLDEN))
    return _shift_right(state, 11).double() / 2.0**53


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _to_signed(_FIRST)
    z = (z ^ _shift_right(z, 27)) * _to_signed(_SECOND)
    return z ^ _shift_right(z, 31)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift: int64 shifts copy the sign."""
    shifted: Tensor = (z >> bits) & (2 ** (64 - bits) - 1)
    return shifted


def _to_signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
