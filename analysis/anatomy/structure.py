"""Finds a model's FFN blocks, norms and LM head from module shapes and one probe run (METHODS §0).

No table of architectures: a block is a set of weights that fit together as up, gate and down and that
reproduce what the probe run computed. If something looks like a block but cannot be proven, the whole model
is refused, so that no partial result is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Anatomy, Block
from analysis.anatomy.contract import reproduces_projections
from analysis.anatomy.experts import expert_blocks, keeps_experts, list_layouts
from analysis.anatomy.heads import find_final_norm, find_head
from analysis.anatomy.projections import NOT_AN_FFN, dense_blocks, unproven
from analysis.anatomy.tracing import PROBE_TOKENS, Call, Trace, stack_and_number, trace_probe
from analysis.errors import ContractBroken, UnknownStructure


def find_anatomy(
    model: PreTrainedModel,
    parameters: Mapping[str, Tensor] | None = None,
    running: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Anatomy:
    """Find and prove the anatomy of a causal language model.

    parameters, running: the source of the weights and the context in which the model runs, if not in memory.
    Raises UnknownStructure if no description fits, ContractBroken if one fits but does not reproduce the
    model's own numbers.
    """
    if parameters is None:
        parameters = dict(model.named_parameters(remove_duplicate=False))
    with running():
        trace = trace_probe(model)
    head, head_call = find_head(model, trace, parameters)
    final_norm = find_final_norm(model, trace, head_call)
    width, kind = parameters[head.parameter].shape[1], type(model).__name__
    blocks = tuple(sorted(_find_blocks(trace, width, parameters), key=lambda b: _place(b.address)))
    if not blocks:
        raise UnknownStructure(
            f"{kind}: found no FFN block (projections that go {width} → m → {width}, as wide as what its LM "
            "head reads); Headlamp reads and clamps FFN neurons only"
        )
    return Anatomy(
        architecture=kind,
        layers=1 + max(block.address.layer for block in blocks),
        d_model=width,
        context=context_length(model.config),
        head=head,
        final_norm=final_norm,
        blocks=blocks,
    )


def context_length(config: Any) -> int:
    """The model's context length, in tokens."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 2048


def _find_blocks(trace: Trace, width: int, parameters: Mapping[str, Tensor]) -> list[Block]:
    stacks: dict[str, list[Block]] = {}
    for layer in trace.layers:
        stack, number = stack_and_number(layer)
        dense = _dense(trace, layer, width, number, parameters)
        routed = _find_routed(trace, layer, width, number, parameters)
        if routed or len(dense) > 1:
            first = sum(block.address.shared for block in routed)
            dense = [_as_shared(block, first + index) for index, block in enumerate(dense)]
        if routed or dense:
            stacks.setdefault(stack, []).extend([*routed, *dense])
    return _renumber_layers(list(stacks.values()))


def _as_shared(block: Block, index: int) -> Block:
    """Mark a block that every token passes beside others of its layer as a shared expert."""
    return replace(block, address=BlockAddress(block.address.layer, True, index))


def _renumber_layers(stacks: list[list[Block]]) -> list[Block]:
    """All blocks, with layers renumbered consecutively if several stacks count from 0."""
    blocks: list[Block] = []
    for stack in stacks:
        taken = {block.address for block in blocks}
        clash = any(block.address in taken for block in stack)
        offset = 1 + max(block.address.layer for block in blocks) if clash else 0
        blocks += [replace(b, address=replace(b.address, layer=b.address.layer + offset)) for b in stack]
    return blocks


def _dense(
    trace: Trace, layer: str, width: int, number: int, parameters: Mapping[str, Tensor]
) -> list[Block]:
    blocks, proven = [], set[str]()
    for block, first, down in dense_blocks(trace, layer, width, number, parameters):
        if not reproduces_projections(block, parameters, first, down):
            raise ContractBroken(f"{block.module}: its weights do not reproduce its projections' outputs")
        _refuse_other_rows(block, down)
        blocks.append(block)
        proven |= {first.name, down.name}
    name = unproven(trace, layer, width, proven)
    if name is not None:
        raise ContractBroken(f"{name} has the shapes of an FFN block but does not compute as one")
    return blocks


def _refuse_other_rows(block: Block, down: Call) -> None:
    """Refuse blocks whose input is not laid out as (batch, position), which clamps need."""
    rows = tuple(down.inputs[0].shape[:-1])
    if rows not in ((1, PROBE_TOKENS), (PROBE_TOKENS, 1), (PROBE_TOKENS,)):
        raise UnknownStructure(
            f"{block.module} reads states laid out as {rows} where (batch, tokens) is (1, {PROBE_TOKENS}), "
            "so its rows and positions are unknown"
        )


def _find_routed(
    trace: Trace, layer: str, width: int, number: int, parameters: Mapping[str, Tensor]
) -> list[Block]:
    blocks: list[Block] = []
    for call in trace.in_layer(layer):
        if any(call.name.startswith(f"{block.module}.") for block in blocks):
            continue
        if next(list_layouts(call.name, call.module, width), None) is None:
            if keeps_experts(call.module, width) and not NOT_AN_FFN.search(call.name.removeprefix(layer)):
                raise UnknownStructure(f"{call.name} keeps its experts in an unknown layout")
            continue
        found = expert_blocks(call.name, call.module, width, number, trace, parameters)
        if not found:
            raise ContractBroken(f"{call.name}: the experts do not compute what their layout predicts")
        blocks += found
    return blocks


def _place(address: BlockAddress) -> tuple[int, bool, int]:
    return address.layer, address.shared, -1 if address.expert is None else address.expert
