"""Hooks for clamps and observers of experts that are slices of their module's parameters.

There is no projection to hook. The module's own forward runs unchanged, and the affected (token, expert)
pairs get the difference  w · (z′ − z) · W_down[:, j]  added, so a clamp that changes nothing adds exactly
zero.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import activate, gate_and_up
from analysis.anatomy.routing import ExpertShare, read_share
from analysis.intervening.residual_units import ResidualSizes, down_norm
from analysis.intervening.steps import ClampPlan, ForwardStep, See, apply_clamp


def attach_expert_clamps(
    step: ForwardStep, plans: list[ClampPlan], sizes: ResidualSizes | None = None
) -> Iterator[Any]:
    """Attach clamps on experts of one module; yields handles, each to be removed.

    sizes: of the residual that the module's output is added to, for clamps in × residual.
    """
    if plans:
        experts = step.loaded.model.get_submodule(plans[0].block.module)
        yield experts.register_forward_hook(_clamps_hook(step, plans, sizes), with_kwargs=True)


def attach_expert_observer(step: ForwardStep, blocks: Sequence[Block], see: See) -> Iterator[Any]:
    """Attach a reading hook to every module with such experts; yields handles."""
    modules: dict[str, list[Block]] = {}
    for block in blocks:
        modules.setdefault(block.module, []).append(block)
    for name, members in modules.items():
        hook = _observer_hook(step, see, members)
        yield step.loaded.model.get_submodule(name).register_forward_hook(hook, with_kwargs=True)


def _clamps_hook(
    step: ForwardStep, plans: list[ClampPlan], sizes: ResidualSizes | None
) -> Callable[..., Any]:
    neurons: dict[tuple[int | None, int], list[ClampPlan]] = {}
    for plan in plans:
        neurons.setdefault((plan.clamp.address.block.expert, plan.clamp.address.neuron), []).append(plan)

    share_of_block = find_sharing(step, plans[0].block.module)

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        changed = output.clone(memory_format=torch.contiguous_format)
        flat = changed.view(-1, changed.shape[-1])
        for (_, neuron), group in neurons.items():
            share = share_of_block(group[0].block, args, kwargs)
            if len(share.token):
                by_token = None
                if sizes is not None and any(plan.clamp.unit == "residual" for plan in group):
                    by_token = sizes.of(lambda: changed).reshape(-1)[share.token, None]
                before, after = _values(step, group, module, share, neuron, by_token)
                column = group[0].block.down.vectors(step.loaded.parameters)[neuron]
                delta = (after - before) * share.weight * column
                flat.index_add_(0, share.target, delta.to(flat.dtype))
        return changed

    return hook


def find_sharing(step: ForwardStep, module: str) -> Callable[[Block, Any, dict[str, Any]], ExpertShare]:
    """How to read an expert's share of a call from its module's inputs."""
    experts = sum(block.module == module for block in step.loaded.anatomy.blocks)

    def share(block: Block, args: Any, kwargs: dict[str, Any]) -> ExpertShare:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        found = read_share(block, experts, given)
        assert found is not None  # proven in the same way when the model was opened
        return found

    return share


def _values(
    step: ForwardStep,
    group: list[ClampPlan],
    module: nn.Module,
    share: ExpertShare,
    neuron: int,
    sizes: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """(n, 1) key values of one expert neuron for its tokens, before and after its clamps.

    sizes (n, 1): of the residual at each token, for clamps in × residual.
    """
    index = torch.tensor([neuron], device=share.x.device)
    gate, up = gate_and_up(group[0].block, step.loaded.parameters, share.x, index)
    before = activate(module, gate, up)
    masks = [_acting(step, plan, share) for plan in group]
    for plan, mask in zip(group, masks, strict=True):
        step.reach.acted[plan.index] += int(mask.sum())
        if plan.clamp.site == "gate" and gate is not None:
            gate = torch.where(mask, apply_clamp(plan.clamp, gate), gate)
        elif plan.clamp.site == "up":
            up = torch.where(mask, apply_clamp(plan.clamp, up), up)
    after = activate(module, gate, up)
    for plan, mask in zip(group, masks, strict=True):
        if plan.clamp.site == "key":
            raw = _raw_values(step, plan, share, mask, sizes)
            after = torch.where(mask, apply_clamp(plan.clamp, after, raw), after)
    return before, after


def _acting(step: ForwardStep, plan: ClampPlan, share: ExpertShare) -> Tensor:
    """(n, 1) whether a clamp acts on each token of its expert.

    In × residual a routing weight of 0 counts as not routed: no value would write anything.
    """
    mask = step.mask(plan).reshape(-1).to(share.x.device)[share.token, None]
    return mask & share.weight.ne(0) if plan.clamp.unit == "residual" else mask


def _raw_values(
    step: ForwardStep, plan: ClampPlan, share: ExpertShare, mask: Tensor, sizes: Tensor | None
) -> Tensor | None:
    """(n, 1) float32 raw values of a clamp in × residual, recorded where it acts; None in other units."""
    if plan.clamp.unit != "residual":
        return None
    assert sizes is not None
    assert plan.clamp.value is not None
    norm = down_norm(step.loaded, plan.clamp, plan.block).to(share.x.device)
    raw = plan.clamp.value * sizes.to(share.x.device) / (norm * share.weight.float())
    step.reach.note_used(plan.index, raw[mask])
    return raw


def _observer_hook(step: ForwardStep, see: See, blocks: list[Block]) -> Callable[..., None]:
    share_of_block = find_sharing(step, blocks[0].module)

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> None:
        width, positions = step.positions.shape[1], step.positions.reshape(-1)
        for block in blocks:
            share = share_of_block(block, args, kwargs)
            positions = positions.to(share.token.device)
            kept = positions[share.token] >= 0
            token = share.token[kept]
            gate, up = gate_and_up(block, step.loaded.parameters, share.x[kept])
            where = token // width, positions[token]
            see(block, "key", activate(module, gate, up), *where)
            see(block, "up", up, *where)
            if gate is not None:
                see(block, "gate", gate, *where)

    return hook
