"""What several tests share of guards made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from analysis.anatomy.addresses import BlockAddress
from analysis.opening.models import LoadedModel
from analysis.running.probing import last_keys
from analysis.unlearning.guards.key_boxes import KeyBox
from analysis.unlearning.guards.key_guards import KeyGuard, Rival

PROMPTS = [[1, *range(10 + 3 * n, 14 + 3 * n + n % 3)] for n in range(12)]


def guard_around(
    loaded: LoadedModel,
    chosen: list[int],
    layers: tuple[int, ...] = (1,),
    prompts: Sequence[Sequence[int]] = PROMPTS,
    **how: Any,
) -> KeyGuard:
    """A guard whose boxes hold the last keys of some of the prompts and, by construction, no other's."""
    keys = last_keys(loaded, prompts, loaded.anatomy.blocks)
    boxes = []
    for layer in layers:
        own = keys[BlockAddress(layer)][chosen]
        width = (own - own.mean(0)).abs().amax(0) + 1e-3
        boxes.append(KeyBox(layer, own.mean(0), width, 1.0, 30, torch.ones_like(width)))
    return KeyGuard(tuple(boxes), 1.0, **how)


def with_rival(guard: KeyGuard, near: KeyGuard, margin: float = 0.75) -> KeyGuard:
    """The guard with another's boxes, a little aside, as a rival's."""
    boxes = tuple(replace(box, mean=box.mean + 1e-4) for box in near.boxes)
    return replace(guard, rivals=(Rival("kept", boxes),), margin=margin)
