"""Pruning of experts and of weight columns: during a forward step they contribute 0 (METHODS §3).

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
from analysis.anatomy.routing import read_share, zero_weights
from analysis.errors import ClampError, ExpertError
from analysis.intervening.clamps import Clamp, ClampSite, Mode, Scope
from analysis.intervening.hooks import at_positions, site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel


@dataclass(frozen=True)
class PruneExpert:
    """Prune one expert: routed, shared, or, by a layer's own address, a whole dense block."""

    address: BlockAddress

    def __str__(self) -> str:
        return f"{self.address}:prune"


@dataclass(frozen=True)
class PruneColumn(Clamp):
    """Prune one column of a block's down projection, by its neuron.

    It is the clamp that ablates the neuron's key at every position, which writes what a column of 0 does.
    """

    site: ClampSite = "key"
    mode: Mode = "ablate"
    raw: float | None = 0.0

    def __post_init__(self) -> None:
        if (self.site, self.mode, self.scope, self.raw) != ("key", "ablate", Scope(), 0.0):
            raise ClampError(f"{self.address}: a pruned column writes 0 everywhere, whatever else is asked")
        super().__post_init__()


@dataclass(frozen=True)
class PrunePlan:
    """A pruned block, its place in the recipe, and the batch rows it is pruned in (None: all)."""

    block: Block
    index: int
    rows: Sequence[int] | None


def plan_pruning(
    loaded: LoadedModel, pruned: Sequence[tuple[int, PruneExpert, Sequence[int] | None]]
) -> list[PrunePlan]:
    """Prepare prunings for one step, each with its place in the recipe and its rows.

    Raises AddressOutOfRange, and ExpertError if a layer would lose all its experts.
    """
    check_prunable(loaded, [item.address for _, item, _ in pruned])
    blocks = loaded.anatomy.blocks
    return [PrunePlan(blocks[loaded.anatomy.index(i.address)], at, rows) for at, i, rows in pruned]


def check_prunable(loaded: LoadedModel, addresses: Sequence[BlockAddress]) -> None:
    """Raise AddressOutOfRange for an unknown expert, ExpertError if a layer would lose all experts."""
    for address in addresses:
        loaded.anatomy.index(address)
    if addresses:
        check_readable(loaded)
    gone = set(addresses)
    for layer in sorted({address.layer for address in gone if address.expert is not None}):
        routed = {b.address for b in loaded.anatomy.blocks if b.routed and b.address.layer == layer}
        if routed and routed <= gone:
            raise ExpertError(
                f"all {len(routed)} experts of layer {layer} would be pruned, leaving none for its tokens; "
                f"leave at least one of L{layer}.E0 to L{layer}.E{len(routed) - 1}"
            )


def check_readable(loaded: LoadedModel) -> None:
    """Raise ExpertError if experts are quantised, or spread over several processes."""
    if getattr(loaded.model, "is_quantized", False) or getattr(loaded.model, "hf_quantizer", None):
        raise ExpertError(
            f"the weights of {loaded.ref.name} are quantised, so an expert's output cannot be computed "
            "from its weights; open the original model, in bfloat16 or float32"
        )
    for name in {block.module for block in loaded.anatomy.blocks if block.fused}:
        if getattr(loaded.model.get_submodule(name), "_is_expert_parallel", False):
            raise ExpertError(
                f"the experts of {loaded.ref.name} are spread over several processes (expert parallel), and "
                "this one holds only a part of them; open the model in one process"
            )


def attach_pruning(step: ForwardStep, plans: Sequence[PrunePlan]) -> Iterator[Handle]:
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
        yield module.register_forward_pre_hook(_zero_expert_weights(step, members), with_kwargs=True)
        yield module.register_forward_hook(_zero_rows(step, members), with_kwargs=True)


def _silent(step: ForwardStep, plan: PrunePlan) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        written = output.clone(memory_format=torch.contiguous_format)
        at_positions(written, step, plan.block)[step.in_rows(plan.rows)] = 0.0
        return written

    return hook


def _zero_expert_weights(step: ForwardStep, plans: list[PrunePlan]) -> Callable[..., Any]:
    """Set the pruned experts' weights to 0 where the module receives its weights."""

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = [*args, *kwargs.values()]
        tensors = [i for i, value in enumerate(given) if isinstance(value, Tensor)]
        for plan in plans:
            inputs = [given[i] for i in tensors]
            found = zero_weights(plan.block, _experts(step, plan), inputs, _tokens(step, plan))
            if found is not None:
                place, weights, acted = found
                given[tensors[place]] = weights
                step.reach.acted[plan.index] += acted
        return tuple(given[: len(args)]), dict(zip(kwargs, given[len(args) :], strict=True))

    return hook


def _zero_rows(step: ForwardStep, plans: list[PrunePlan]) -> Callable[..., Any]:
    """Set the pruned experts' rows to 0 where the module receives rows that are already weighted."""

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor | None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        changed = None
        for plan in plans:
            experts, where = _experts(step, plan), _tokens(step, plan)
            if zero_weights(plan.block, experts, inputs, where) is not None:
                continue
            share = read_share(plan.block, experts, inputs)
            assert share is not None  # proven in the same way when the model was opened
            acted = where[share.token]
            changed = output.clone(memory_format=torch.contiguous_format) if changed is None else changed
            changed.view(-1, changed.shape[-1])[share.target[acted]] = 0.0
            step.reach.acted[plan.index] += int(acted.sum())
        return changed

    return hook


def _experts(step: ForwardStep, plan: PrunePlan) -> int:
    return sum(block.module == plan.block.module for block in step.loaded.anatomy.blocks)


def _tokens(step: ForwardStep, plan: PrunePlan) -> Tensor:
    """(B · T,) whether each token of the batch is in the plan's rows."""
    return step.in_rows(plan.rows).reshape(-1)
