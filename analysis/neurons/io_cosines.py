"""Cosines between the vectors that one neuron reads and writes (METHODS §1; arXiv 2505.17936)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block, Site
from analysis.anatomy.head_matrix import exact


@dataclass(frozen=True)
class IoCosines:
    """Cosines of each of m neurons' own vectors, (m,) float32 in [−1, 1]: up with gate, up with down, gate
    with down. Those with gate are NaN in a plain block, and all where a vector is 0.
    """

    up_gate: Tensor
    up_down: Tensor
    gate_down: Tensor


def measure_io_cosines(block: Block, parameters: Mapping[str, Tensor]) -> IoCosines:
    """The cosines of every neuron of a block, from its stored weights without any norm."""
    up, down = _read_directions(block, parameters, "up"), _read_directions(block, parameters, "down")
    up_down = _multiply(up, down)
    if not block.gated:
        none = torch.full_like(up_down, torch.nan)
        return IoCosines(none, up_down, none)
    gate = _read_directions(block, parameters, "gate")
    return IoCosines(_multiply(up, gate), up_down, _multiply(gate, down))


def list_io_parameters(block: Block) -> set[str]:
    """The names of the parameters read by `measure_io_cosines`."""
    sites: tuple[Site, ...] = ("up", "gate", "down") if block.gated else ("up", "down")
    return {block.view(site).parameter for site in sites}


def _read_directions(block: Block, parameters: Mapping[str, Tensor], site: Site) -> Tensor:
    vectors = exact(block.view(site).vectors(parameters))
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths


def _multiply(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(-1).clamp(-1, 1).cpu()
