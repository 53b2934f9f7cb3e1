"""Hooks of `interventions.intervene`: where a clamp changes a value and an observer reads one.

Dense blocks are changed where the value is: before the down projection (key), after gate and up. Experts
that are slices of one parameter have no projection of their own to hook: see `expert_hooks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.errors import ClampError
from analysis.intervening.clamps import CLAMP_SITES, Clamp, ClampSite
from analysis.intervening.expert_hooks import attach_expert_clamps, attach_expert_observer
from analysis.intervening.residual_units import ResidualSizes, down_norm, find_residual
from analysis.intervening.steps import ClampPlan, ForwardStep, Reach, See, apply_clamp
from analysis.opening.models import LoadedModel

__all__ = [
    "ForwardStep",
    "Reach",
    "See",
    "at_positions",
    "attach_clamps",
    "attach_observer",
    "by_module",
    "check_clamp",
    "plan_clamp",
    "site_columns",
    "site_module",
]


def check_clamp(loaded: LoadedModel, clamp: Clamp) -> Block:
    """The clamp's block. Raises AddressOutOfRange, and ClampError if this model does not allow the clamp."""
    block = loaded.anatomy.block(clamp.address)
    if clamp.site == "gate" and not block.gated:
        raise ClampError(f"{clamp}: block {block.address} is plain and has no gate; clamp its key or up site")
    if clamp.unit == "residual" and loaded.streamed is None:
        find_residual(loaded, clamp, block)
    return block


def plan_clamp(loaded: LoadedModel, clamp: Clamp, index: int, rows: Sequence[int] | None) -> ClampPlan:
    """Prepare the clamp for one forward step. Raises as check_clamp, and for an unresolved value."""
    block = check_clamp(loaded, clamp)
    if clamp.raw is None and clamp.unit != "residual":
        raise ClampError(f"{clamp}: its value has not been resolved against the reference text yet")
    return ClampPlan(clamp, block, index, rows)


def by_module(plans: Sequence[ClampPlan]) -> list[list[ClampPlan]]:
    """Group the plans by module, in the recipe's order: an expert's clamps act on one another."""
    groups: dict[str, list[ClampPlan]] = {}
    for plan in plans:
        groups.setdefault(plan.block.module, []).append(plan)
    return list(groups.values())


def attach_clamps(step: ForwardStep, plans: list[ClampPlan]) -> Iterator[Any]:
    """Attach one module's clamps that act in this step; yields handles, each to be removed."""
    active = []
    for plan in plans:
        count = int(step.mask(plan).sum())
        step.reach.covered[plan.index] += count
        if count:
            active.append(plan)
    sizes = None
    of_residual = [plan for plan in active if plan.clamp.unit == "residual"]
    if of_residual:  # all are of one module, so they add to one residual
        place = find_residual(step.loaded, of_residual[0].clamp, of_residual[0].block)
        sizes = ResidualSizes(step, place)
        yield from sizes.attach()
    yield from attach_expert_clamps(step, [plan for plan in active if plan.block.fused], sizes)
    yield from _attach_dense_clamps(step, [plan for plan in active if not plan.block.fused], sizes)


def _attach_dense_clamps(
    step: ForwardStep, plans: list[ClampPlan], sizes: ResidualSizes | None
) -> Iterator[Any]:
    for plan in plans:
        step.reach.acted[plan.index] += int(step.mask(plan).sum())
    model = step.loaded.model
    for together in _in_rounds(plans):
        places: dict[tuple[str, bool], list[ClampPlan]] = {}
        for plan in together:
            at = site_module(plan.block, plan.clamp.site), plan.clamp.site == "key"
            places.setdefault(at, []).append(plan)
        for (name, is_key), here in places.items():
            if is_key:
                yield model.get_submodule(name).register_forward_pre_hook(_key_hook(step, here, sizes))
            else:
                yield model.get_submodule(name).register_forward_hook(_output_hook(step, here))


def _in_rounds(plans: Sequence[ClampPlan]) -> list[list[ClampPlan]]:
    """Groups of plans no two of which act on one batch row; those on one row stay in the recipe's order."""
    rounds: list[list[ClampPlan]] = []
    first, next_of = 0, dict[int, int]()
    for plan in plans:
        if plan.rows is None:  # it acts on every row, so all later ones follow it
            number = len(rounds)
            first = number + 1
        else:
            number = max([first, *(next_of.get(row, first) for row in plan.rows)])
            next_of |= dict.fromkeys(plan.rows, number + 1)
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(plan)
    return rounds


def site_module(block: Block, site: ClampSite) -> str:
    """The projection at which a block's site is read: at its input (key) or output (up, gate)."""
    view = {"key": block.down, "up": block.up, "gate": block.gate}[site]
    assert view is not None
    return view.parameter.removesuffix(".weight")


def site_columns(block: Block, site: ClampSite) -> slice:
    """Which columns of that input or output are its neurons: half of them if gate and up are fused."""
    return slice(None) if site == "key" else block.view(site).neurons


def _key_hook(
    step: ForwardStep, plans: Sequence[ClampPlan], sizes: ResidualSizes | None
) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        of_residual = sizes is not None and any(plan.clamp.unit == "residual" for plan in plans)
        read = sizes.of(lambda: module.forward(args[0])) if sizes is not None and of_residual else None
        return (_clamp_columns(step, plans, args[0], read), *args[1:])

    return hook


def _raw_values(step: ForwardStep, plan: ClampPlan, sizes: Tensor) -> Tensor:
    """(B, T) float32 raw values of a clamp in × residual, recorded where it acts."""
    assert plan.clamp.value is not None
    raw = plan.clamp.value * sizes / down_norm(step.loaded, plan.clamp, plan.block).to(sizes.device)
    step.reach.note_used(plan.index, raw[step.mask(plan).to(raw.device)])
    return raw


def _output_hook(step: ForwardStep, plans: Sequence[ClampPlan]) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return _clamp_columns(step, plans, output)

    return hook


def _clamp_columns(
    step: ForwardStep, plans: Sequence[ClampPlan], values: Tensor, sizes: Tensor | None = None
) -> Tensor:
    """A copy of a projection's states with the clamped neurons' columns changed in scope.

    sizes: (B, T) of the residual, for clamps in × residual.
    """
    changed = values.clone(memory_format=torch.contiguous_format)
    for plan in plans:
        states = at_positions(changed, step, plan.block)
        column = states[..., site_columns(plan.block, plan.clamp.site)][..., plan.clamp.address.neuron]
        raw = None
        if sizes is not None and plan.clamp.unit == "residual":
            raw = _raw_values(step, plan, sizes)
        mask = step.mask(plan).to(column.device)
        column.copy_(torch.where(mask, apply_clamp(plan.clamp, column, raw), column))
    return changed


def at_positions(values: Tensor, step: ForwardStep, block: Block) -> Tensor:
    """A view (B, T, n) of contiguous states (B, T, n), (B·T, n) or, time first, (T, B, n)."""
    batch, length = step.positions.shape
    if block.time_first:
        return values.view(length, batch, -1).transpose(0, 1)
    return values.view(batch, length, -1)


def attach_observer(
    step: ForwardStep,
    blocks: Sequence[Block],
    see: See,
    sites: Sequence[ClampSite] = CLAMP_SITES,
    where: Tensor | None = None,
) -> Iterator[Any]:
    """Attach reading hooks to some blocks; yields handles, each to be removed.

    sites, where (B, T): what is read of dense blocks; experts are read whole.
    """
    read = step.positions >= 0 if where is None else where & (step.positions >= 0)
    model = step.loaded.model
    yield from attach_expert_observer(step, [block for block in blocks if block.fused], see)
    for block in (block for block in blocks if not block.fused):
        for site in sites if block.gated else [site for site in sites if site != "gate"]:
            module = model.get_submodule(site_module(block, site))
            hook = _dense_observer(step, see, block, site, read)
            if site == "key":
                yield module.register_forward_pre_hook(hook)
            else:
                yield module.register_forward_hook(hook)


def _dense_observer(
    step: ForwardStep, see: See, block: Block, site: ClampSite, read: Tensor
) -> Callable[..., None]:
    row, position = torch.where(read)
    columns = site_columns(block, site)

    def hook(module: nn.Module, args: Any, output: Any = None) -> None:
        states = (args[0] if site == "key" else output).contiguous()
        here = row.to(states.device), position.to(states.device)
        values = at_positions(states, step, block)[here][:, columns]
        see(block, site, values, row, step.positions[row, position])

    return hook
