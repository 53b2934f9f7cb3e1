"""What several tests share of boxes made."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.running.probing import Moments, Tally
from analysis.unlearning.guards.key_boxes import KeyBox, fit_box


def moments(keys: Tensor) -> Moments:
    tally = Tally(keys.shape[1])
    tally.add(keys)
    return tally.moments()


def box_of(keys: Tensor, layer: int = 0) -> KeyBox:
    return fit_box(layer, moments(keys))


def random_keys(n: int = 50, m: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed))
