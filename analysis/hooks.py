"""The hooks behind `interventions.intervened`: where a clamp changes a value, where an observer reads one.

Dense blocks are changed where the value is: before the down projection (key), after gate and up. Routed
experts are fused 3-D parameters with no projection of their own to hook; the module's own forward runs
unchanged, and the affected (token, expert) pairs get the difference  w · (z′ − z) · W_down[:, j]  added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy import Block
from analysis.clamps import Clamp, ClampSite
from analysis.contract import activate, gate_and_up
from analysis.errors import ClampError
from analysis.models import LoadedModel

See = Callable[[Block, ClampSite, Tensor, Tensor, Tensor], None]
"""Called with a block, a site, values (n, m), rows (n,) and positions (n,); padding left out."""


@dataclass
class Reach:
    """Per clamp, in order: how many positions its scope covered and on how many of them it acted.

    The two differ for a routed expert only, which acts where its router sent the token.
    """

    covered: list[int] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)

    def add(self, other: Reach) -> None:
        """Sum another step's counts into this one."""
        self.covered = [a + b for a, b in _zip_longest(self.covered, other.covered)]
        self.acted = [a + b for a, b in _zip_longest(self.acted, other.acted)]


@dataclass(frozen=True)
class Plan:
    """A clamp with its block, its place in the recipe, and the batch rows it acts on (None: all)."""

    clamp: Clamp
    block: Block
    index: int
    rows: Sequence[int] | None


@dataclass(frozen=True)
class Step:
    """What all hooks of one forward step share."""

    loaded: LoadedModel
    positions: Tensor
    prompt_length: int
    reach: Reach

    def mask(self, plan: Plan) -> Tensor:
        """(B, T) where the clamp's scope and rows are, padding left out."""
        first, last = plan.clamp.scope.interval(self.prompt_length)
        inside = (self.positions >= max(first, 0)) & (self.positions <= last)
        if plan.rows is None:
            return inside
        chosen = torch.zeros(len(self.positions), 1, dtype=torch.bool, device=inside.device)
        chosen[list(plan.rows)] = True
        return inside & chosen


def check_clamp(loaded: LoadedModel, clamp: Clamp) -> Block:
    """The clamp's block. Raises AddressOutOfRange, ClampError where this model cannot be clamped so."""
    block = loaded.anatomy.block(clamp.address)
    if clamp.site == "gate" and not block.gated:
        raise ClampError(f"{clamp}: block {block.address} is plain and has no gate; clamp its key or up site")
    module = loaded.model.get_submodule(block.module)
    if block.routed and getattr(module, "has_post_expert_norm", False):
        raise ClampError(f"{clamp}: experts with a norm of their own cannot be clamped exactly")
    return block


def plan_clamp(loaded: LoadedModel, clamp: Clamp, index: int, rows: Sequence[int] | None) -> Plan:
    """The clamp made ready for one forward step. Raises as check_clamp, and for an unresolved value."""
    block = check_clamp(loaded, clamp)
    if clamp.raw is None:
        raise ClampError(f"{clamp}: its value has not been resolved against the reference text yet")
    return Plan(clamp, block, index, rows)


def by_module(plans: Sequence[Plan]) -> list[list[Plan]]:
    """The plans of each module together, in the recipe's order: an expert's clamps act on one another."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(plan.block.module, []).append(plan)
    return list(groups.values())


def attach_clamps(step: Step, plans: list[Plan]) -> Iterator[Any]:
    """Attach the clamps of one module that act in this step; yields handles, each to be removed."""
    active = []
    for plan in plans:
        count = int(step.mask(plan).sum())
        step.reach.covered[plan.index] += count
        if count:
            active.append(plan)
    model = step.loaded.model
    if active and active[0].block.routed:
        experts = model.get_submodule(active[0].block.module)
        yield experts.register_forward_hook(_experts_hook(step, active), with_kwargs=True)
        return
    for plan in active:
        step.reach.acted[plan.index] += int(step.mask(plan).sum())
        module = model.get_submodule(site_module(plan.block, plan.clamp.site))
        if plan.clamp.site == "key":
            yield module.register_forward_pre_hook(_key_hook(step, plan))
        else:
            yield module.register_forward_hook(_output_hook(step, plan))


def site_module(block: Block, site: ClampSite) -> str:
    """The projection at which a dense or shared block's site can be read: its input (key) or output."""
    view = {"key": block.down, "up": block.up, "gate": block.gate}[site]
    assert view is not None
    return view.parameter.removesuffix(".weight")


def _key_hook(step: Step, plan: Plan) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_held(step, plan, args[0]), *args[1:])

    return hook


def _output_hook(step: Step, plan: Plan) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return _held(step, plan, output)

    return hook


def _held(step: Step, plan: Plan, values: Tensor) -> Tensor:
    """A copy of (B, T, m) or (B·T, m) with the clamped neuron's column changed where the clamp acts."""
    changed = values.clone()
    column = changed.view(*step.positions.shape, -1)[..., plan.clamp.address.neuron]
    column.copy_(torch.where(step.mask(plan), change(plan.clamp, column), column))
    return changed


def change(clamp: Clamp, values: Tensor) -> Tensor:
    """The clamp's rule applied to activations of any shape. `raw` is in the activations' own units."""
    assert clamp.raw is not None
    if clamp.mode == "add":
        return values + clamp.raw
    if clamp.mode == "scale":
        return values * clamp.raw
    return torch.full_like(values, 0.0 if clamp.mode == "ablate" else clamp.raw)


def _experts_hook(step: Step, plans: list[Plan]) -> Callable[..., Any]:
    neurons: dict[tuple[int | None, int], list[Plan]] = {}
    for plan in plans:
        neurons.setdefault((plan.clamp.address.block.expert, plan.clamp.address.neuron), []).append(plan)

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        hidden, chosen, weights = (*args, *kwargs.values())[:3]
        changed = output.clone()
        flat = changed.view(-1, changed.shape[-1])
        for (expert, neuron), group in neurons.items():
            token, slot = torch.where(chosen.view(-1, chosen.shape[-1]) == expert)
            if len(token):
                x = hidden.reshape(-1, hidden.shape[-1])[token]
                before, after = _expert_values(step, group, module, x, token, neuron)
                delta = (after - before) * weights.view(-1, weights.shape[-1])[token, slot, None]
                column = group[0].block.down.vectors(step.loaded.parameters)[neuron]
                flat.index_add_(0, token, (delta * column).to(flat.dtype))
        return changed

    return hook


def _expert_values(
    step: Step, group: list[Plan], module: nn.Module, x: Tensor, token: Tensor, neuron: int
) -> tuple[Tensor, Tensor]:
    """(n, 1) key values of one expert neuron for its routed tokens x (n, d), before and after its clamps."""
    index = torch.tensor([neuron], device=x.device)
    gate, up = gate_and_up(group[0].block, step.loaded.parameters, x, index)
    before = activate(module, gate, up)
    masks = [step.mask(plan).view(-1)[token, None] for plan in group]
    for plan, mask in zip(group, masks, strict=True):
        step.reach.acted[plan.index] += int(mask.sum())
        if plan.clamp.site == "gate" and gate is not None:
            gate = torch.where(mask, change(plan.clamp, gate), gate)
        elif plan.clamp.site == "up":
            up = torch.where(mask, change(plan.clamp, up), up)
    after = activate(module, gate, up)
    for plan, mask in zip(group, masks, strict=True):
        if plan.clamp.site == "key":
            after = torch.where(mask, change(plan.clamp, after), after)
    return before, after


def attach_observer(step: Step, blocks: Sequence[Block], see: See) -> Iterator[Any]:
    """Attach reading hooks to some blocks; yields handles, each to be removed."""
    model = step.loaded.model
    routed: dict[str, list[Block]] = {}
    for block in blocks:
        if block.routed:
            routed.setdefault(block.module, []).append(block)
            continue
        key = model.get_submodule(site_module(block, "key"))
        yield key.register_forward_pre_hook(_dense_observer(step, see, block, "key"))
        for site in ("up", "gate") if block.gated else ("up",):
            module = model.get_submodule(site_module(block, site))
            yield module.register_forward_hook(_dense_observer(step, see, block, site))
    for name, blocks in routed.items():
        hook = _experts_observer(step, see, blocks)
        yield model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)


def _dense_observer(step: Step, see: See, block: Block, site: ClampSite) -> Callable[..., None]:
    row, position = torch.where(step.positions >= 0)

    def hook(module: nn.Module, args: Any, output: Any = None) -> None:
        values = (args[0] if site == "key" else output).view(*step.positions.shape, -1)
        see(block, site, values[row, position], row, step.positions[row, position])

    return hook


def _experts_observer(step: Step, see: See, blocks: list[Block]) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
        hidden, chosen = (*args, *kwargs.values())[:2]
        hidden, width = hidden.reshape(-1, hidden.shape[-1]), step.positions.shape[1]
        for block in blocks:
            here = (chosen.view(len(hidden), -1) == block.address.expert).any(-1) & (
                step.positions.reshape(-1) >= 0
            )
            token = torch.where(here)[0]
            gate, up = gate_and_up(block, step.loaded.parameters, hidden[token])
            where = token // width, step.positions.reshape(-1)[token]
            see(block, "key", activate(module, gate, up), *where)
            see(block, "up", up, *where)
            if gate is not None:
                see(block, "gate", gate, *where)

    return hook


def _zip_longest(one: list[int], other: list[int]) -> Iterator[tuple[int, int]]:
    size = max(len(one), len(other))
    return zip(one + [0] * (size - len(one)), other + [0] * (size - len(other)), strict=True)
