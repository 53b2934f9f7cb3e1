"""Pruning experts: for the length of a forward step an expert contributes 0 (METHODS §3).

The router chooses as before and its other weights are not renormalised. A routed expert's weight is set to 0
before its module runs, so that the same kernels run; a block with projections of its own writes 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.anatomy.routing import share_of, without
from analysis.errors import ExpertError
from analysis.intervening.hooks import at_positions, site_module
from analysis.intervening.steps import Handle, Step
from analysis.opening.models import LoadedModel


@dataclass(frozen=True)
class PruneExpert:
    """Take one expert out: a routed one, a shared one, or, by a layer's own address, a whole dense block."""

    address: BlockAddress

    def __str__(self) -> str:
        return f"{self.address}:prune"


@dataclass(frozen=True)
class PrunePlan:
    """A pruned block, its place in the recipe, and the batch rows it is pruned in (None: all)."""

    block: Block
    index: int
    rows: Sequence[int] | None


def plan_pruning(
    loaded: LoadedModel, pruned: Sequence[tuple[int, PruneExpert, Sequence[int] | None]]
) -> list[PrunePlan]:
    """Prunings made ready for one step, each with its place in the recipe and its rows.

    Raises AddressOutOfRange, and ExpertError where a layer would lose all its experts.
    """
    check_prunable(loaded, [item.address for _, item, _ in pruned])
    blocks = loaded.anatomy.blocks
    return [PrunePlan(blocks[loaded.anatomy.index(i.address)], at, rows) for at, i, rows in pruned]


def check_prunable(loaded: LoadedModel, addresses: Sequence[BlockAddress]) -> None:
    """Raises AddressOutOfRange for an expert that is not there, ExpertError for all experts of a layer."""
    for address in addresses:
        loaded.anatomy.index(address)
    if addresses:
        check_readable(loaded)
    gone = set(addresses)
    for layer in sorted({address.layer for address in gone if address.expert is not None}):
        routed = {b.address for b in loaded.anatomy.blocks if b.routed and b.address.layer == layer}
        if routed and routed <= gone:
            raise ExpertError(
                f"all {len(routed)} experts of layer {layer} would be pruned, and its tokens would be routed "
                f"to nothing; leave at least one of L{layer}.E0 to L{layer}.E{len(routed) - 1}"
            )


def check_readable(loaded: LoadedModel) -> None:
    """Raises ExpertError where experts are quantised, or spread over several processes."""
    if getattr(loaded.model, "is_quantized", False) or getattr(loaded.model, "hf_quantizer", None):
        raise ExpertError(
            f"the weights of {loaded.ref.name} are quantised, so that what an expert writes cannot be told "
            "from its weights; open the model it was made from, in bfloat16 or float32"
        )
    for name in {block.module for block in loaded.anatomy.blocks if block.fused}:
        if getattr(loaded.model.get_submodule(name), "_is_expert_parallel", False):
            raise ExpertError(
                f"the experts of {loaded.ref.name} are spread over several processes (expert parallel), and "
                "this one holds but a part of them; open the model in one process"
            )


def attach_pruning(step: Step, plans: Sequence[PrunePlan]) -> Iterator[Handle]:
    """Attach prunings; yields handles, each to be removed."""
    fused: dict[str, list[PrunePlan]] = {}
    for plan in plans:
        step.reach.covered[plan.index] += int(step.in_rows(plan.rows).sum())
        if plan.block.fused:
            fused.setdefault(plan.block.module, []).append(plan)
            continue
        step.reach.acted[plan.index] += int(step.in_rows(plan.rows).sum())
        module = step.loaded.model.get_submodule(site_module(plan.block, "key"))
        yield module.register_forward_hook(_silent(step, plan))
    for name, members in fused.items():
        module = step.loaded.model.get_submodule(name)
        yield module.register_forward_pre_hook(_unweighted(step, members), with_kwargs=True)
        yield module.register_forward_hook(_emptied(step, members), with_kwargs=True)


def _silent(step: Step, plan: PrunePlan) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        written = output.clone(memory_format=torch.contiguous_format)
        at_positions(written, step, plan.block)[step.in_rows(plan.rows)] = 0.0
        return written

    return hook


def _unweighted(step: Step, plans: list[PrunePlan]) -> Callable[..., Any]:
    """The weights of the pruned experts become 0 where the module is given its weights."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *kwargs.values()]
        tensors = [i for i, value in enumerate(given) if isinstance(value, Tensor)]
        for plan in plans:
            inputs = [given[i] for i in tensors]
            found = without(plan.block, _experts(step, plan), inputs, _tokens(step, plan))
            if found is not None:
                place, weights, acted = found
                given[tensors[place]] = weights
                step.reach.acted[plan.index] += acted
        return tuple(given[: len(args)]), dict(zip(kwargs, given[len(args) :], strict=True))

    return hook


def _emptied(step: Step, plans: list[PrunePlan]) -> Callable[..., Any]:
    """The rows of the pruned experts become 0 where the module is given rows that are weighted already."""

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        changed = None
        for plan in plans:
            experts, where = _experts(step, plan), _tokens(step, plan)
            if without(plan.block, experts, inputs, where) is not None:
                continue
            share = share_of(plan.block, experts, inputs)
            assert share is not None  # proven in the same way when the model was opened
            acted = where[share.token]
            changed = output.clone(memory_format=torch.contiguous_format) if changed is None else changed
            changed.view(-1, changed.shape[-1])[share.target[acted]] = 0.0
            step.reach.acted[plan.index] += int(acted.sum())
        return changed

    return hook


def _experts(step: Step, plan: PrunePlan) -> int:
    return sum(block.module == plan.block.module for block in step.loaded.anatomy.blocks)


def _tokens(step: Step, plan: PrunePlan) -> Tensor:
    """(B · T,) whether each token of the batch is in the plan's rows."""
    return step.in_rows(plan.rows).reshape(-1)
