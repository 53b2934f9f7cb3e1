"""Find a model's FFN blocks, norms and LM head from module shapes and one probe run (METHODS §0).

No table of architectures: a block is a module whose own projections fit together as up, gate and down;
the final norm is the norm whose output is the head's input. What is found here is only a claim;
`contract.py` proves it, and tries the other order of up and gate where the first does not hold.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from analysis.addresses import BlockAddress
from analysis.anatomy import Anatomy, Block, Head, Norm, WeightView
from analysis.contract import activation_of, reproduces_block, reproduces_experts, reproduces_head
from analysis.errors import ContractBroken, UnknownStructure
from analysis.tracing import Trace, input_norm, norm_where, post_norm, same, trace_probe

_AXES: dict[bool, tuple[Literal[0, 1], Literal[0, 1]]] = {False: (0, 1), True: (1, 0)}
"""Neuron axis of (gate and up, down) in fused experts, by whether they are stored transposed."""
_NOT_AN_FFN = re.compile(r"attn|attention|router", re.IGNORECASE)


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """The proven anatomy of a causal language model.

    Raises UnknownStructure where no description fits, ContractBroken where one fits but does not
    reproduce the model's own numbers.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    trace = trace_probe(model)
    head_name, head = _find_head(model, trace, parameters)
    final_norm = _find_final_norm(model, trace, head_name)
    width = parameters[head.parameter].shape[1]
    blocks = tuple(sorted(_find_blocks(model, trace, width, parameters), key=lambda b: _place(b.address)))
    if not blocks:
        raise UnknownStructure(
            f"{_kind(model)}: found no FFN block (a module whose projections go {width} → m → {width}); "
            "Headlamp reads and clamps FFN neurons only"
        )
    return Anatomy(
        architecture=_kind(model),
        layers=1 + max(block.address.layer for block in blocks),
        d_model=width,
        context=context_length(model.config),
        head=head,
        final_norm=final_norm,
        blocks=blocks,
    )


def context_length(config: Any) -> int:
    """How many positions the model can take, in tokens."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return 2048


def _find_head(model: PreTrainedModel, trace: Trace, parameters: dict[str, Tensor]) -> tuple[str, Head]:
    module = model.get_output_embeddings()
    name = next((n for n, m in model.named_modules() if m is module and m is not None), None)
    call = None if name is None else trace.of(name)
    if name is None or call is None or f"{name}.weight" not in parameters:
        raise UnknownStructure(f"{_kind(model)}: found no LM head that turns hidden states into logits")
    weight = parameters[f"{name}.weight"]
    embeddings = model.get_input_embeddings()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    linear = call.output.float()
    scale = 1.0
    if cap is None and not torch.equal(linear, trace.logits.float()):
        ours, theirs = linear.detach().cpu().double(), trace.logits.detach().cpu().double()
        scale = float((ours * theirs).sum() / (ours * ours).sum())
    head = Head(
        parameter=f"{name}.weight",
        vocab=weight.shape[0],
        bias=f"{name}.bias" if f"{name}.bias" in parameters else None,
        scale=scale,
        soft_cap=cap,
        tied=embeddings is not None and embeddings.weight is weight,
    )
    if not reproduces_head(head, parameters, call.inputs[0], trace.logits):
        raise ContractBroken(f"{_kind(model)}: its logits are not cap(scale · (W x + b)) of {name}")
    return name, head


def _find_final_norm(model: PreTrainedModel, trace: Trace, head_name: str) -> Norm:
    head = trace.of(head_name)
    assert head is not None
    found = norm_where(trace, lambda call: same(call.output, head.inputs[0]))
    if found is None:
        raise UnknownStructure(f"{_kind(model)}: no norm's output is the LM head's input")
    return found


def _find_blocks(
    model: PreTrainedModel, trace: Trace, width: int, parameters: dict[str, Tensor]
) -> Iterator[Block]:
    routed_layers = {_layer_of(n) for n, m in model.named_modules() if _is_fused_experts(m)}
    shared = Counter[int]()
    for name, module in model.named_modules():
        layer = _layer_of(name)
        if layer is None or _NOT_AN_FFN.search(name):
            continue
        if _is_fused_experts(module):
            yield from _expert_blocks(name, module, layer, trace, parameters)
        elif block := _dense_block(name, module, layer, width, trace, parameters):
            if layer in routed_layers:
                block = replace(block, address=BlockAddress(layer, True, shared[layer]))
                shared[layer] += 1
            yield block


def _dense_block(
    name: str, module: nn.Module, layer: int, width: int, trace: Trace, parameters: dict[str, Tensor]
) -> Block | None:
    """The module as a block, if its projections have an FFN's shapes; proven by its own numbers."""
    claims = list(_dense_claims(name, module, layer, width, trace))
    call = trace.of(name)
    if not claims or call is None:
        return None
    for claim in claims:
        if reproduces_block(claim, module, parameters, call.inputs, call.output):
            return claim
    raise ContractBroken(f"{name} has the shapes of an FFN block but does not compute as one")


def _dense_claims(name: str, module: nn.Module, layer: int, width: int, trace: Trace) -> Iterator[Block]:
    """Every way the module's own projections could be up, gate and down; the likeliest first."""
    order = {call.name: index for index, call in enumerate(trace.calls)}
    linears = [
        (f"{name}.{child}", m)
        for child, m in module.named_children()
        if isinstance(m, nn.Linear | Conv1D) and f"{name}.{child}" in order
    ]
    linears.sort(key=lambda item: order[item[0]])
    down = [item for item in linears if _shape(item[1])[1] == width and item is linears[-1]]
    inner = [item for item in linears[:-1] if _shape(item[1])[0] == width]
    if len(down) != 1 or len(inner) != len(linears) - 1 or len(inner) not in (1, 2):
        return
    m = _shape(down[0][1])[0]
    if activation_of(module) is None or any(_shape(item[1])[1] != m for item in inner):
        return
    inner.sort(key=lambda item: "gate" in item[0].rsplit(".", 1)[-1])
    before, after = input_norm(trace, name), post_norm(trace, name)
    for up, *gate in (inner, inner[::-1]) if len(inner) == 2 else (inner,):
        yield Block(
            address=BlockAddress(layer),
            d_ff=m,
            module=name,
            up=_linear_view(up, m, neurons_are_outputs=True),
            gate=_linear_view(gate[0], m, neurons_are_outputs=True) if gate else None,
            down=_linear_view(down[0], m, neurons_are_outputs=False),
            input_norm=before,
            post_norm=after,
        )


def _expert_blocks(
    name: str, module: Any, layer: int, trace: Trace, parameters: dict[str, Tensor]
) -> list[Block]:
    """One block per expert of a module that keeps its experts as fused 3-D parameters."""
    norms = input_norm(trace, name), post_norm(trace, name)
    blocks = [_expert_block(name, module, layer, expert, *norms) for expert in range(len(module.down_proj))]
    call = trace.of(name)
    if call is None or not reproduces_experts(blocks, module, parameters, call.inputs, call.output):
        raise ContractBroken(f"{name}: the experts do not compute as their layout says")
    return blocks


def _expert_block(
    name: str, module: Any, layer: int, expert: int, before: Norm | None, after: Norm | None
) -> Block:
    m = module.down_proj.shape[1 if module.is_transposed else 2]
    inner = f"{name}.gate_up_proj" if module.has_gate else f"{name}.up_proj"
    inner_axis, down_axis = _AXES[bool(module.is_transposed)]
    inner_bias, down_bias = (f"{inner}_bias", f"{name}.down_proj_bias") if module.has_bias else (None, None)
    step, gate_start, up_start = (1, 0, m) if module.is_concatenated else (2, 0, 1)
    gate = WeightView(inner, inner_axis, m, gate_start, step, expert, inner_bias)
    up = WeightView(inner, inner_axis, m, up_start, step, expert, inner_bias)
    return Block(
        address=BlockAddress(layer, False, expert),
        d_ff=m,
        module=name,
        up=up if module.has_gate else replace(gate, step=1),
        gate=gate if module.has_gate else None,
        down=WeightView(f"{name}.down_proj", down_axis, m, expert=expert, bias=down_bias),
        input_norm=before,
        post_norm=after,
    )


def _is_fused_experts(module: nn.Module) -> bool:
    down = getattr(module, "down_proj", None)
    return isinstance(down, nn.Parameter) and down.dim() == 3 and hasattr(module, "has_gate")


def _shape(linear: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a projection; GPT-2's Conv1D stores them the other way round."""
    weight: Any = linear.weight
    rows, columns = weight.shape
    return (rows, columns) if isinstance(linear, Conv1D) else (columns, rows)


def _linear_view(named: tuple[str, nn.Module], m: int, *, neurons_are_outputs: bool) -> WeightView:
    name, linear = named
    rows_are_outputs = not isinstance(linear, Conv1D)
    bias = f"{name}.bias" if getattr(linear, "bias", None) is not None else None
    return WeightView(f"{name}.weight", 0 if neurons_are_outputs == rows_are_outputs else 1, m, bias=bias)


def _layer_of(name: str) -> int | None:
    number = re.search(r"\.(\d+)\.", f".{name}.")
    return None if number is None else int(number.group(1))


def _place(address: BlockAddress) -> tuple[int, bool, int]:
    return address.layer, address.shared, -1 if address.expert is None else address.expert


def _kind(model: PreTrainedModel) -> str:
    return type(model).__name__
