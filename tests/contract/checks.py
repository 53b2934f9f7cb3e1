"""What is read off a model: head, blocks and decoding, each against float64 arithmetic of its own."""

from __future__ import annotations

import re

import torch
from torch import Tensor
from transformers import PreTrainedModel

from analysis.anatomy.anatomy import Block, WeightView
from analysis.anatomy.head_matrix import read_head_matrix
from analysis.neurons.decoding import decode_vectors, read_block_vectors
from analysis.opening.models import LoadedModel
from tests.contract.edits import bias_of, logits_of, seen_at
from tests.contract.expectations import expect, expect_near, sample

_FFN_WEIGHT = re.compile(r"mlp|ffn|feed_?forward|expert|\bfc\d|lin[12]|dense_h|intermediate", re.IGNORECASE)
_OTHER_WEIGHT = re.compile(
    r"router|^(mlp\.)?gate\.|time_mix|(\bgate|gating|wg|classifier|expert_gate|receptance)\.weight$|norm|attn|attention|conv|adapter|_hc",
    re.IGNORECASE,
)


def check_repeats(loaded: LoadedModel) -> None:
    """Two plain runs give the same bits, and the model is causal at all."""
    expect(torch.equal(logits_of(loaded.model), logits_of(loaded.model)), "two plain runs differ")


def check_complete(loaded: LoadedModel) -> None:
    """Every weight that is called like an FFN's and that the model used lies in a block that was found."""
    claimed = {
        view.parameter
        for block in loaded.anatomy.blocks
        for view in (block.up, block.gate, block.down)
        if view is not None
    }
    ran = _ran(loaded.model)
    for name, parameter in loaded.model.named_parameters():
        owner = name.rpartition(".")[0]
        inside = re.sub(r"^.*?\.\d+\.", "", name) if re.search(r"\.\d+\.", name) else ""
        is_ffn = _FFN_WEIGHT.search(inside) and not _OTHER_WEIGHT.search(inside)
        if is_ffn and parameter.dim() > 1 and owner in ran and "bias" not in name:
            expect(name in claimed, f"{name} {tuple(parameter.shape)} lies in no block")


def _ran(model: PreTrainedModel) -> set[str]:
    """The modules that a plain run calls."""
    ran, handles = set[str](), []
    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(lambda m, args, out, name=name: ran.add(name)))
    logits_of(model)
    for handle in handles:
        handle.remove()
    return ran


def check_head(loaded: LoadedModel) -> None:
    """cap(scale · (W x + b)) of what the head reads, in float64, is the model's own logits."""
    head, parameters = loaded.anatomy.head, loaded.parameters
    x = seen_at(loaded.model, head.parameter.removesuffix(".weight")).given[0].double()
    logits = x @ parameters[head.parameter].double().T
    logits = head.scale * (logits if head.bias is None else logits + parameters[head.bias].double())
    if head.soft_cap is not None:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    theirs = logits_of(loaded.model)
    expect_near(logits[..., : theirs.shape[-1]], theirs, "the described head's logits")


def check_final_norm(loaded: LoadedModel) -> None:
    """The described final norm, in float64, gives what the head reads, from what the norm read."""
    norm, head = loaded.anatomy.final_norm, loaded.anatomy.head.parameter.removesuffix(".weight")
    if norm.parameter is None:
        return
    x = seen_at(loaded.model, norm.parameter.removesuffix(".weight")).given[0].double()
    x = x - x.mean(-1, keepdim=True) if norm.kind == "layer" else x
    x = x / (x.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.scale(dict(loaded.parameters)).double()
    if norm.bias is not None:
        x = x + norm.factor * loaded.parameters[norm.bias].double()
    read = seen_at(loaded.model, head).given[0]
    if x.shape[:2] == read.shape[1::-1] != read.shape[:2]:  # time first until the head
        x = x.transpose(0, 1)
    expect_near(x, read, "the described final norm's output")


def check_blocks(loaded: LoadedModel) -> None:
    """Every block with projections of its own: its rows times its input, its columns times its key."""
    for block in (b for b in loaded.anatomy.blocks if not b.fused):
        for view in (block.up, block.gate):
            if view is not None:
                seen = seen_at(loaded.model, view.parameter.removesuffix(".weight"))
                ours = _product(seen.given[0], view, dict(loaded.parameters))
                theirs = seen.gave[..., view.start :: view.step][..., : view.count]
                expect_near(ours, theirs, f"{block.address}: its {view.parameter}")
        seen = seen_at(loaded.model, block.down.parameter.removesuffix(".weight"))
        columns, bias = block.down.vectors(loaded.parameters).double(), block.down.biases(loaded.parameters)
        ours = seen.given[0].double() @ columns + (0.0 if bias is None else bias.double())
        expect_near(ours, seen.gave, f"{block.address}: its output")


def _product(x: Tensor, view: WeightView, parameters: dict[str, Tensor]) -> Tensor:
    rows = view.vectors(parameters).double()
    biases = [bias_of(parameters, view, neuron) for neuron in range(view.count)]
    shift = torch.stack([torch.zeros(()) if b is None else b for b in biases]).double()
    return x.double() @ rows.T + shift


def check_decoding(loaded: LoadedModel) -> None:
    """decode() of one block of each kind at every site equals one float64 einsum over the vocabulary."""
    vocab = loaded.anatomy.head.vocab
    head = read_head_matrix(loaded.anatomy, loaded.parameters, vocab)
    rows = loaded.parameters[loaded.anatomy.head.parameter].double() * loaded.anatomy.head.scale
    for block in sample(loaded):
        for site in ("up", "gate", "down") if block.gated else ("up", "down"):
            vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site)  # type: ignore[arg-type]
            ours = decode_vectors(vectors, head, 5)
            z = torch.einsum("vd,md->mv", rows, _vectors(loaded, block, site))
            where = f"{block.address} {site}"
            expect_near(ours.top_logits, z.topk(5).values, f"{where}: best logits", 1e-5)
            expect_near(z.gather(1, ours.top_ids.long()), z.topk(5).values, f"{where}: best tokens", 1e-5)
            expect_near(ours.log_z, torch.logsumexp(z, -1), f"{where}: log Σ exp z", 1e-5)
            expect_near(ours.deviation, z.std(-1, correction=0), f"{where}: deviation", 1e-5)


def _vectors(loaded: LoadedModel, block: Block, site: str) -> Tensor:
    """(m, d) float64, index by index."""
    view = {"up": block.up, "gate": block.gate, "down": block.down}[site]
    assert view is not None
    weight = loaded.parameters[view.parameter]
    weight = weight if view.expert is None else weight[view.expert]
    neurons = [view.start + view.step * j for j in range(block.d_ff)]
    return (weight[neurons] if view.neuron_axis == 0 else weight[:, neurons].T).double()


READING = (
    check_repeats,
    check_complete,
    check_head,
    check_final_norm,
    check_blocks,
    check_decoding,
)
