"""Anatomy against independent float64 arithmetic, family by family."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from analysis.anatomy import Block
from analysis.contract import head_logits
from analysis.errors import AddressOutOfRange, ContractBroken, UnknownStructure
from analysis.structure import find_anatomy
from analysis.tracing import trace_probe
from tests.analysis.conftest import DENSE, FAMILIES, tiny_model

EXPECTED = {  # blocks, neurons, gated, (1 + w) norm, kind of final norm
    "gpt2": (2, 256, False, 0.0, "layer"),
    "llama": (2, 112, True, 0.0, "rms"),
    "mistral": (2, 112, True, 0.0, "rms"),
    "qwen2": (2, 112, True, 0.0, "rms"),
    "qwen3": (2, 112, True, 0.0, "rms"),
    "gemma": (2, 112, True, 1.0, "rms"),
    "gemma2": (2, 112, True, 1.0, "rms"),
    "mixtral": (8, 448, True, 0.0, "rms"),
    "qwen2_moe": (10, 272, True, 0.0, "rms"),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_anatomy_counts_what_the_configuration_says(family: str) -> None:
    anatomy = find_anatomy(tiny_model(family))
    blocks, neurons, gated, offset, kind = EXPECTED[family]
    assert (len(anatomy.blocks), anatomy.neurons) == (blocks, neurons)
    assert all(block.gated is gated for block in anatomy.blocks)
    assert (anatomy.final_norm.offset, anatomy.final_norm.kind) == (offset, kind)
    assert (anatomy.layers, anatomy.d_model, anatomy.context) == (2, 32, 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_described_head_gives_the_models_own_logits(family: str) -> None:
    model = tiny_model(family)
    anatomy = find_anatomy(model)
    seen: list[Tensor] = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    logits = model(torch.tensor([[5, 9, 2, 40]])).logits
    handle.remove()
    ours = head_logits(anatomy.head, dict(model.named_parameters(remove_duplicate=False)), seen[0])
    torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", DENSE)
def test_a_dense_block_recomputed_in_float64_equals_the_hooked_one(family: str) -> None:
    model = tiny_model(family)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    trace = trace_probe(model)
    for block in find_anatomy(model).blocks:
        call = trace.of(block.module)
        assert call is not None
        expected = _by_hand(block, parameters, call.inputs[0].double(), _activation(model, block))
        torch.testing.assert_close(call.output.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_routed_experts_recomputed_in_float64_add_up_to_the_hooked_sum(family: str) -> None:
    model = tiny_model(family)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    trace = trace_probe(model)
    blocks = find_anatomy(model).blocks
    for name in {block.module for block in blocks if block.routed}:
        call = trace.of(name)
        assert call is not None
        hidden, chosen, weights = call.inputs[:3]
        expected = torch.zeros_like(hidden, dtype=torch.float64)
        for block in (b for b in blocks if b.module == name):
            y = _by_hand(block, parameters, hidden.double(), _activation(model, block))
            share = (weights.double() * (chosen == block.address.expert)).sum(-1, keepdim=True)
            expected += share * y
        torch.testing.assert_close(call.output.double(), expected, rtol=1e-4, atol=1e-5)


def test_shared_experts_are_told_from_routed_ones() -> None:
    blocks = find_anatomy(tiny_model("qwen2_moe")).blocks
    assert [str(b.address) for b in blocks[:5]] == ["L0.E0", "L0.E1", "L0.E2", "L0.E3", "L0.S0"]
    assert [b.routed for b in blocks[:5]] == [True] * 4 + [False]


def test_norms_before_and_after_the_block_are_found() -> None:
    block = find_anatomy(tiny_model("gemma2")).blocks[1]
    assert block.input_norm is not None
    assert block.post_norm is not None
    assert block.input_norm.parameter == "model.layers.1.pre_feedforward_layernorm.weight"
    assert block.post_norm.parameter == "model.layers.1.post_feedforward_layernorm.weight"
    assert find_anatomy(tiny_model("llama")).blocks[0].post_norm is None


def test_a_model_without_ffn_blocks_is_refused_with_a_sentence() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.mlp = nn.Identity()
    with pytest.raises(UnknownStructure, match="found no FFN block"):
        find_anatomy(model)


def test_a_block_that_computes_something_else_is_refused() -> None:
    model = tiny_model("llama")
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda x: mlp.down_proj(torch.sin(mlp.gate_proj(x)) * mlp.up_proj(x))
    with pytest.raises(ContractBroken, match="does not compute as one"):
        find_anatomy(model)


def test_gate_and_up_are_told_apart_by_what_they_compute_not_by_their_names() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        mlp = layer.mlp
        mlp.gate_proj, mlp.up_proj = mlp.up_proj, mlp.gate_proj
        mlp.forward = lambda x, mlp=mlp: mlp.down_proj(mlp.act_fn(mlp.up_proj(x)) * mlp.gate_proj(x))
    block = find_anatomy(model).blocks[0]
    assert block.gate is not None
    assert (block.gate.parameter, block.up.parameter) == (
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
    )


def test_a_plain_block_has_no_gate_to_read() -> None:
    with pytest.raises(AddressOutOfRange, match="plain and has no gate"):
        find_anatomy(tiny_model("gpt2")).blocks[0].view("gate")


def _activation(model: nn.Module, block: Block) -> nn.Module:
    module = model.get_submodule(block.module)
    return getattr(module, "act_fn", None) or module.act  # type: ignore[return-value]


def _by_hand(block: Block, parameters: dict[str, Tensor], x: Tensor, act: nn.Module) -> Tensor:
    """y = W_down (act(W_gate x + b) ⊙ (W_up x + b)) + b, written out with the views' own rows."""

    def site(view: object) -> Tensor:
        rows, bias = view.vectors(parameters).double(), view.unit_biases(parameters)  # type: ignore[attr-defined]
        return x @ rows.T + (0.0 if bias is None else bias.double())

    up = site(block.up)
    key = act(up) if block.gate is None else act(site(block.gate)) * up
    bias = block.down.biases(parameters)
    return key @ block.down.vectors(parameters).double() + (0.0 if bias is None else bias.double())
