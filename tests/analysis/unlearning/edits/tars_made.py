"""What several tests share of tars made."""

from __future__ import annotations

from typing import Any

import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars


def edits(loaded: LoadedModel) -> Tars:
    """One vector at each place there is."""
    torch.manual_seed(0)
    block = loaded.anatomy.blocks[1]
    sites: list[Any] = ["up", "gate", "down"] if block.gated else ["up", "down"]
    width = loaded.anatomy.d_model
    found = [
        Reversal(NeuronAddress(block.address, 3 + i), s, 0.5, torch.randn(width)) for i, s in enumerate(sites)
    ]
    return Tars((*found, Reversal(HeadRow(20), "head", 0.9, torch.randn(width))))
