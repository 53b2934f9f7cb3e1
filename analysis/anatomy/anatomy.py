"""One view of every FFN, final norm and LM head, whatever the architecture calls them (METHODS §0).

    gated block:  y = W_down · ( act(W_gate x + b) ⊙ (W_up x + b) ) + b
    plain block:  y = W_out  · act(W_in x + b) + b            (W_in is called `up` here)

These objects hold names, shapes and layouts, never tensors, so that the same anatomy serves a loaded
model and a checkpoint on disk. `structure.py` finds them; `contract.py` proves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.errors import AddressOutOfRange

Site = Literal["up", "gate", "down"]
SITES: tuple[Site, ...] = ("up", "gate", "down")


@dataclass(frozen=True)
class WeightView:
    """Where one block's m vectors of width d lie inside one parameter.

    The parameter is 2-D, or 3-D with the expert first. `neuron_axis` counts neurons in the 2-D part;
    `start`, `step` and `count` select the neurons on a fused gate-and-up axis (interleaved: step 2).
    """

    parameter: str
    neuron_axis: Literal[0, 1]
    count: int
    start: int = 0
    step: int = 1
    expert: int | None = None
    bias: str | None = None

    def vectors(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """(m, d): one row per neuron, a view where the layout allows it."""
        weight = parameters[self.parameter]
        if self.expert is not None:
            weight = weight[self.expert]
        rows = weight if self.neuron_axis == 0 else weight.T
        return rows[self.neurons]

    def biases(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """(m,) for up and gate; the whole (d,) output bias where neurons are this view's inputs."""
        if self.bias is None:
            return None
        bias = parameters[self.bias]
        if self.expert is not None:
            bias = bias[self.expert]
        return bias

    def unit_biases(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """(m,): the part of the bias that belongs to these neurons (up and gate only)."""
        bias = self.biases(parameters)
        return None if bias is None else bias[self.neurons]

    @property
    def neurons(self) -> slice:
        """Where the neurons lie along the neuron axis."""
        return slice(self.start, self.start + self.step * (self.count - 1) + 1, self.step)


@dataclass(frozen=True)
class Norm:
    """A norm's learned part, if it has one. `offset` is 1 where the model multiplies by (1 + weight) (Gemma).

    factor: what the normed states are multiplied by before they are read, besides the weight.
    """

    parameter: str | None
    kind: Literal["rms", "layer"]
    eps: float
    offset: float = 0.0
    bias: str | None = None
    factor: float = 1.0

    def scale(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """γ_eff (d,), or () where nothing is learned; float32."""
        if self.parameter is None:
            return torch.tensor(self.factor)
        return self.factor * (parameters[self.parameter].float() + self.offset)


@dataclass(frozen=True)
class Block:
    """One FFN block and everything needed to read, recompute and clamp it.

    fused: its weights are a slice of what `module` keeps for all its experts, so that it has no projections
    of its own to hook. time_first: its states are (tokens, batch, …), not (batch, tokens, …).
    """

    address: BlockAddress
    d_ff: int
    module: str
    up: WeightView
    gate: WeightView | None
    down: WeightView
    input_norm: Norm | None = None
    post_norm: Norm | None = None
    fused: bool = False
    time_first: bool = False

    @property
    def gated(self) -> bool:
        """Whether a gate multiplies the up projection."""
        return self.gate is not None

    @property
    def routed(self) -> bool:
        """Whether a router decides which tokens this block sees."""
        return self.address.expert is not None and not self.address.shared

    def view(self, site: Site) -> WeightView:
        """The decodable vectors of a site. Raises AddressOutOfRange for `gate` on a plain block."""
        view = {"up": self.up, "gate": self.gate, "down": self.down}[site]
        if view is None:
            raise AddressOutOfRange(
                f"block {self.address} is plain and has no gate; choose the site up or down"
            )
        return view


@dataclass(frozen=True)
class Head:
    """The LM head: logits = cap(scale · (W_U x + b)). Decoding uses the linear part, scale · W_U."""

    parameter: str
    vocab: int
    bias: str | None = None
    scale: float = 1.0
    soft_cap: float | None = None
    tied: bool = False


@dataclass(frozen=True)
class Anatomy:
    """A model's blocks in storage and display order: by layer, routed experts first, then shared ones."""

    architecture: str
    layers: int
    d_model: int
    context: int
    head: Head
    final_norm: Norm
    blocks: tuple[Block, ...]

    @property
    def neurons(self) -> int:
        """How many neurons all blocks have together."""
        return sum(block.d_ff for block in self.blocks)

    @property
    def experts(self) -> int:
        """How many routed and shared experts there are; 0 for a dense model."""
        return sum(block.address.expert is not None for block in self.blocks)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The decodable sites this model has."""
        return SITES if any(block.gated for block in self.blocks) else ("up", "down")

    def index(self, address: BlockAddress) -> int:
        """Position of a block in `blocks`. Raises AddressOutOfRange, listing the valid range."""
        for index, block in enumerate(self.blocks):
            if block.address == address:
                return index
        raise AddressOutOfRange(self._no_such_block(address))

    def block(self, address: NeuronAddress) -> Block:
        """The block that holds a neuron. Raises AddressOutOfRange, listing the valid range."""
        block = self.blocks[self.index(address.block)]
        if address.neuron >= block.d_ff:
            raise AddressOutOfRange(f"{address}: block {block.address} has neurons N0–N{block.d_ff - 1}")
        return block

    def _no_such_block(self, address: BlockAddress) -> str:
        here = [b.address for b in self.blocks if b.address.layer == address.layer]
        if not here:
            return (
                f"layer {address.layer}: {self.architecture} has layers L0–L{self.layers - 1} with FFN blocks"
            )
        if address.expert is not None and all(a.expert is None for a in here):
            return (
                f"{address}: layer {address.layer} of {self.architecture} is dense; "
                f"leave the expert out (L{address.layer}.N0)"
            )
        return (
            f"{address}: layer {address.layer} of {self.architecture} has the blocks {here[0]} … {here[-1]}"
        )
