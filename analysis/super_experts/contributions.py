"""What each block of a layer adds to the residual at some tokens (METHODS §3, rule `forms`).

    u_{l,e} = routing weight · down output of expert e, times its shared gate, the residual multiplier and the
              norm behind the FFN, as the residual gets it

Experts are computed again for those few tokens, from their module's inputs. What lies behind them is found
from the numbers: per token, the factors of the routed sum and of each shared expert whose sum is what the
layer's FFN wrote. Where no such factors exist, a contribution is unknown, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import TOLERANCE, activate, gate_and_up
from analysis.anatomy.routing import read_share
from analysis.intervening.hooks import site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.super_experts.residual_layers import FfnWriter, first_output


@dataclass(frozen=True)
class Places:
    """Entries of a residual: token (k,) counts through the flattened batch, dimension (k,)."""

    token: Tensor
    dimension: Tensor


@dataclass
class LayerCalls:
    """The calls of one layer's blocks in one step, kept until the layer has ended."""

    blocks: Sequence[Block]
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)

    def attach(self, step: ForwardStep) -> Iterator[Handle]:
        """Keep the inputs of modules of experts and of projections, and the output of what holds experts."""
        get = step.loaded.model.get_submodule
        for name in dict.fromkeys(block.module for block in self.blocks if block.fused):
            yield get(name).register_forward_pre_hook(self._keep_inputs(name), with_kwargs=True)
            parent = name.rpartition(".")[0]
            yield get(parent).register_forward_hook(self._keep_output(parent))
        for name in [site_module(block, "key") for block in self.blocks if not block.fused]:
            yield get(name).register_forward_pre_hook(self._keep_inputs(name), with_kwargs=True)

    def forget(self) -> None:
        """Let go of what was kept."""
        self.inputs.clear()
        self.outputs.clear()

    def _keep_inputs(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self.inputs[name] = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]

        return hook

    def _keep_output(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            self.outputs[name] = first_output(output)

        return hook


@dataclass(frozen=True)
class Contributions:
    """u of n blocks at k places: added (k, n), float32, 0 where a block did not run, NaN where unknown.

    column (k, n): the neuron whose part of it is largest.
    """

    added: Tensor
    column: Tensor


def read_contributions(
    step: ForwardStep, calls: LayerCalls, places: Places, written: Tensor, writer: FfnWriter
) -> Contributions:
    """What each of a layer's blocks adds at some places. written (B, T, d): the output of `writer`, before
    its factor.
    """
    tokens, at = places.token.unique(return_inverse=True)
    given = _rows(written, tokens).float() * writer.factor
    parts = _RawParts(step, calls, tokens, at, places.dimension)
    if len(calls.blocks) == 1:
        return Contributions(given[at, places.dimension][:, None], parts.column)
    targets = [given]
    if _is_norm(step, writer):
        whole = [calls.outputs.get(name.rpartition(".")[0]) for name in parts.sums]
        targets += [_rows(w, tokens).float() for w in whole if w is not None and w.numel() == written.numel()]
    factors, scale = _fit_factors(torch.stack(list(parts.sums.values())), targets, written.dtype)
    group = [list(parts.sums).index(_group(block)) for block in calls.blocks]
    onward = (scale * given)[at, places.dimension]
    return Contributions(parts.raw * factors[at][:, group] * onward[:, None], parts.column)


def _is_norm(step: ForwardStep, writer: FfnWriter) -> bool:
    """Whether the FFN's output is that of a norm: no projection, and at most a weight and a bias per
    dimension, so that it only scales each dimension of a token.
    """
    modules = [step.loaded.model.get_submodule(name) for name in writer.modules]
    return len(modules) == 1 and all(p.dim() == 1 for p in modules[0].parameters())


def _group(block: Block) -> str:
    """The module whose output a block's is part of: that of all experts, or its own projection."""
    return block.module if block.fused else site_module(block, "key")


class _RawParts:
    """Outputs of a layer's blocks at k places, after the routing weight, before what lies behind.

    raw (k, n), column (k, n): as in Contributions. sums: by module, (m, d) the sum over its blocks at each
    of the m tokens.
    """

    def __init__(
        self, step: ForwardStep, calls: LayerCalls, tokens: Tensor, at: Tensor, dimension: Tensor
    ) -> None:
        self._step, self._calls, self._tokens = step, calls, tokens
        self._at, self._dimension = at, dimension
        self.raw = torch.zeros(len(at), len(calls.blocks), device=tokens.device)
        self.column = torch.zeros(len(at), len(calls.blocks), dtype=torch.int64, device=tokens.device)
        self.sums: dict[str, Tensor] = {}
        members: dict[str, list[int]] = {}
        for number, block in enumerate(calls.blocks):
            members.setdefault(_group(block), []).append(number)
        for name, numbers in members.items():
            if calls.blocks[numbers[0]].fused:
                self._take_experts(name, numbers)
            else:
                every = torch.arange(len(tokens), device=tokens.device)
                self._take(name, numbers[0], every, _rows(calls.inputs[name][0], tokens))

    def _take_experts(self, name: str, numbers: list[int]) -> None:
        """Compute the experts of a module again, for the tokens."""
        module, parameters = self._step.loaded.model.get_submodule(name), self._step.loaded.parameters
        place = self._tokens.new_full((self._step.positions.numel(),), -1)
        place[self._tokens] = torch.arange(len(self._tokens), device=place.device)
        for number in numbers:
            block = self._calls.blocks[number]
            share = read_share(block, len(numbers), self._calls.inputs[name])
            assert share is not None  # proven in the same way when the model was opened
            where = place[share.token]
            mine = where >= 0
            key = activate(module, *gate_and_up(block, parameters, share.x[mine]))
            self._take(name, number, where[mine], key, share.weight[mine].float())

    def _take(self, name: str, number: int, token: Tensor, key: Tensor, weight: Tensor | float = 1.0) -> None:
        """token (j,): which of the m tokens; key (j, m_ff) and routing weight (j, 1) of a block there."""
        view, parameters = self._calls.blocks[number].down, self._step.loaded.parameters
        output = nn.functional.linear(key, view.vectors(parameters).T, view.biases(parameters))
        output = output.float() * weight
        if name not in self.sums:
            self.sums[name] = output.new_zeros(len(self._tokens), output.shape[1])
        self.sums[name].index_add_(0, token, output)
        row = token.new_full((len(self._tokens),), -1)
        row[token] = torch.arange(len(token), device=token.device)
        pair = torch.where(row[self._at] >= 0)[0]
        own, dimension = row[self._at[pair]], self._dimension[pair]
        value = output[own, dimension]
        self.raw[pair, number] = value
        if len(pair):
            down = view.vectors(parameters)[:, dimension].T
            self.column[pair, number] = (key[own] * down * value.sign()[:, None]).argmax(-1)


def _rows(states: Tensor, tokens: Tensor) -> Tensor:
    """Rows of some tokens of states (…, d)."""
    return states.reshape(-1, states.shape[-1])[tokens]


def _fit_factors(sums: Tensor, targets: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """(factors (m, g), scale (m, d)) with sums (g, m, d) · factors = a target (m, d), by least squares.

    scale: 1 / that target, so that a part times its factor and `scale` is its share of the whole. Of several
    targets each token takes the first that its factors reproduce; NaN where none is.
    """
    factors = sums.new_full((sums.shape[1], len(sums)), torch.nan)
    scale = sums.new_full(sums.shape[1:], torch.nan)
    for target in targets:
        size = target.abs()
        relative = 1 / size.clamp(min=1e-30).maximum(size.median(-1, keepdim=True).values)
        # each entry is rounded relative to its own size
        basis = (sums * relative).permute(1, 2, 0).cpu().double()
        wanted = (target * relative)[..., None].cpu().double()
        found = torch.linalg.lstsq(basis, wanted, driver="gelsd").solution
        left = (basis @ found - wanted).norm(dim=(1, 2)) / wanted.norm(dim=(1, 2)).clamp(min=1e-30)
        better = (left <= TOLERANCE[dtype]).to(sums.device) & factors[:, 0].isnan()
        factors[better] = found[..., 0].to(sums)[better]
        scale[better] = 1 / target[better]
    return factors, scale
