"""Edits of many neurons of a block at one site by a rule: used by Neuron Adjust and pruning.

Dense blocks are changed in place. For experts that are slices of their module's parameters, the resulting
difference is added to their module's output, as for clamps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import activate, gate_and_up
from analysis.intervening.clamps import ClampSite
from analysis.intervening.expert_hooks import find_sharing
from analysis.intervening.hooks import at_positions, site_columns, site_module
from analysis.intervening.steps import ForwardStep, Handle

Rule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""values (n, k) of the chosen neurons, batch rows (n,), positions (n,) → new values (n, k)."""


@dataclass(frozen=True)
class SiteEdit:
    """Change the neurons (k,) of one block at one site by a rule."""

    block: Block
    site: ClampSite
    neurons: Tensor
    rule: Rule


def attach_edit(step: ForwardStep, edit: SiteEdit, rows: Sequence[int] | None) -> Iterator[Handle]:
    """Attach one edit to the positions of some batch rows (None: all); yields handles."""
    where = step.in_rows(rows)
    if not len(edit.neurons) or not where.any():
        return
    model, block = step.loaded.model, edit.block
    if block.fused:
        module = model.get_submodule(block.module)
        yield module.register_forward_hook(_expert_hook(step, edit, where), with_kwargs=True)
        return
    module = model.get_submodule(site_module(block, edit.site))
    change = _dense_change(step, edit, where)
    if edit.site == "key":
        yield module.register_forward_pre_hook(lambda m, args: (change(args[0]), *args[1:]))
    else:
        yield module.register_forward_hook(lambda m, args, output: change(output))


def _dense_change(step: ForwardStep, edit: SiteEdit, where: Tensor) -> Callable[[Tensor], Tensor]:
    def change(values: Tensor) -> Tensor:
        row, column = torch.where(where.to(values.device))
        neurons = edit.neurons.to(values.device)
        changed = values.clone(memory_format=torch.contiguous_format)
        states = at_positions(changed, step, edit.block)[..., site_columns(edit.block, edit.site)]
        place = (row[:, None], column[:, None], neurons)
        new = edit.rule(states[place], row, step.positions.to(values.device)[row, column])
        states[place] = new.to(states.dtype)
        return changed

    return change


def _expert_hook(step: ForwardStep, edit: SiteEdit, where: Tensor) -> Callable[..., Any]:
    block, width = edit.block, step.positions.shape[1]
    share_of_block = find_sharing(step, block.module)

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Tensor) -> Tensor:
        share = share_of_block(block, args, kwargs)
        device = share.token.device
        neurons, acted = edit.neurons.to(device), where.reshape(-1).to(device)[share.token]
        token = share.token[acted]
        if not len(token):
            return output
        gate, up = gate_and_up(block, step.loaded.parameters, share.x[acted], neurons)
        sites: dict[str, Tensor | None] = {"gate": gate, "up": up}
        before = activate(module, gate, up)
        place = token // width, step.positions.reshape(-1).to(device)[token]
        if edit.site == "key":
            after = edit.rule(before, *place)
        else:
            old = sites[edit.site]
            assert old is not None  # checked before the step
            sites[edit.site] = edit.rule(old, *place).to(old.dtype)
            assert sites["up"] is not None
            after = activate(module, sites["gate"], sites["up"])
        columns = block.down.vectors(step.loaded.parameters)[neurons]
        delta = ((after - before) @ columns) * share.weight[acted]
        changed = output.clone(memory_format=torch.contiguous_format)
        changed.view(-1, changed.shape[-1]).index_add_(0, share.target[acted], delta.to(changed.dtype))
        return changed

    return hook
