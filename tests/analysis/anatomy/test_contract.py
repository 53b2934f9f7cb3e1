"""Anatomy against independent float64 arithmetic, family by family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.anatomy.contract import head_logits
from analysis.anatomy.structure import find_anatomy
from analysis.anatomy.tracing import trace_probe
from analysis.errors import AddressOutOfRange, ContractBroken, UnknownStructure
from tests.analysis.conftest import DENSE, FAMILIES, tiny_model

EXPECTED = {  # blocks, neurons, gated, (1 + w) norm, kind of final norm
    "gpt2": (2, 256, False, 0.0, "layer"),
    "llama": (2, 112, True, 0.0, "rms"),
    "mistral": (2, 112, True, 0.0, "rms"),
    "qwen2": (2, 112, True, 0.0, "rms"),
    "qwen3": (2, 112, True, 0.0, "rms"),
    "gemma": (2, 112, True, 1.0, "rms"),
    "gemma2": (2, 112, True, 1.0, "rms"),
    "phi3": (2, 112, True, 0.0, "rms"),
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
        read, wrote = (trace.of(v.parameter.removesuffix(".weight")) for v in (block.up, block.down))
        assert read is not None
        assert wrote is not None
        expected = _by_hand(block, parameters, read.inputs[0].double(), _activation(model, block))
        torch.testing.assert_close(wrote.output.double(), expected, rtol=1e-4, atol=1e-5)


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
    mlp.forward = lambda x: mlp.down_proj(mlp.gate_proj(x).cumsum(-1).sin() * mlp.up_proj(x))
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


@pytest.mark.parametrize("layout", ["gate first", "up first", "interleaved"])
def test_the_halves_of_one_projection_are_told_apart_by_what_they_compute(layout: str) -> None:
    model = tiny_model("phi3")
    for layer in model.model.layers:
        layer.mlp.forward = _fused_forward(layer.mlp, layout)
    for block in find_anatomy(model).blocks:
        assert block.gate is not None
        assert (block.gate.start, block.up.start, block.up.step) == {
            "gate first": (0, 56, 1),
            "up first": (56, 0, 1),
            "interleaved": (0, 1, 2),
        }[layout]


def _fused_forward(mlp: Any, layout: str) -> Any:
    def forward(x: Tensor) -> Tensor:
        both = mlp.gate_up_proj(x)
        first, second = (both[..., ::2], both[..., 1::2]) if layout == "interleaved" else both.chunk(2, -1)
        gate, up = (second, first) if layout == "up first" else (first, second)
        return mlp.down_proj(mlp.activation_fn(gate) * up)

    return forward


def test_a_gating_of_the_models_own_is_proven_by_running_it_again() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        mlp = layer.mlp
        mlp.forward = lambda x, mlp=mlp: mlp.down_proj((mlp.up_proj(x) + 1) * torch.sin(2 * mlp.gate_proj(x)))
    block = find_anatomy(model).blocks[1]
    assert block.gate is not None
    assert (block.gate.parameter, block.up.parameter) == (
        "model.layers.1.mlp.gate_proj.weight",
        "model.layers.1.mlp.up_proj.weight",
    )


def test_one_block_that_cannot_be_proven_refuses_the_whole_model() -> None:
    model = tiny_model("llama")
    mlp = model.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(torch.cumsum(mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x), 1))
    with pytest.raises(ContractBroken, match=r"model\.layers\.1\.mlp has the shapes"):
        find_anatomy(model)


def test_a_narrow_adapter_is_no_block() -> None:
    model = tiny_model("llama")
    for layer in model.model.layers:
        layer.adapter = nn.Sequential(nn.Linear(32, 8), nn.SiLU(), nn.Linear(8, 32)).requires_grad_(False)
        mlp, inner = layer.mlp, layer.mlp.forward
        mlp.forward = lambda x, inner=inner, adapter=layer.adapter: inner(x) + adapter(x)
    blocks = find_anatomy(model).blocks
    assert [(str(b.address), b.d_ff) for b in blocks] == [("L0", 56), ("L1", 56)]


def test_experts_in_a_layout_nobody_knows_are_refused() -> None:
    model = tiny_model("mixtral")
    for layer in model.model.layers:
        experts = layer.mlp.experts
        experts.extra = nn.Parameter(torch.randn(4, 32, 32))
    with pytest.raises(UnknownStructure, match="keeps its experts in an unknown layout"):
        find_anatomy(model)


def test_experts_that_compute_something_else_are_refused() -> None:
    model = tiny_model("mixtral")
    experts = model.model.layers[0].mlp.experts
    experts.forward = lambda hidden, chosen, weights: hidden * 2
    with pytest.raises(ContractBroken, match="do not compute what their layout predicts"):
        find_anatomy(model)


def test_a_head_that_reads_multiples_of_the_normed_states_says_so() -> None:
    model = tiny_model("llama")
    inner = model.model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = inner(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 0.25
        return output

    model.model.forward = forward
    found = find_anatomy(model).final_norm
    assert found.parameter == "model.norm.weight"
    assert found.factor == pytest.approx(0.25)
    parameters = dict(model.named_parameters())
    torch.testing.assert_close(found.scale(parameters), 0.25 * parameters["model.norm.weight"])


def test_a_norm_that_learns_nothing_is_a_norm() -> None:
    model = tiny_model("llama")
    model.model.norm = nn.RMSNorm(32, eps=1e-5, elementwise_affine=False)
    norm = find_anatomy(model).final_norm
    assert (norm.kind, norm.parameter, norm.eps) == ("rms", None, 1e-5)
    assert float(norm.scale({})) == 1.0


def test_a_capped_head_is_read_with_its_cap_and_scale() -> None:
    model = tiny_model("gemma2", final_logit_softcapping=4.0)
    head = find_anatomy(model).head
    assert (head.soft_cap, head.scale) == (4.0, 1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "phi3", "qwen2_moe"])
def test_low_precision_is_read_as_float32_is(family: str, dtype: torch.dtype) -> None:
    changed: dict[str, Any] = {"final_logit_softcapping": 4.0} if family == "gemma2" else {}
    exact = find_anatomy(tiny_model(family, **changed))
    rough = find_anatomy(tiny_model(family, **changed).to(dtype))
    assert rough == exact


def test_rows_of_the_head_that_only_pad_the_vocabulary_may_give_no_logits() -> None:
    model = tiny_model("llama")
    whole = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = whole(*args, **kwargs)
        output.logits = output.logits[..., :90]
        return output

    model.forward = forward
    head = find_anatomy(model).head
    assert (head.vocab, head.scale) == (97, 1.0)


def test_logits_turned_into_float32_are_compared_in_the_heads_own_precision() -> None:
    model = tiny_model("llama").to(torch.bfloat16)
    whole = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = whole(*args, **kwargs)
        output.logits = output.logits.float()
        return output

    model.forward = forward
    assert find_anatomy(model).head.scale == 1.0


def test_layers_of_several_stacks_are_counted_through() -> None:
    model = tiny_model("llama")
    model.model.more = nn.ModuleList([tiny_model("llama", seed=1).model.layers[0].mlp])
    mlp, inner = model.model.layers[1].mlp, model.model.layers[1].mlp.forward
    mlp.forward = lambda x: inner(x) + model.model.more[0](x)
    blocks = find_anatomy(model).blocks
    assert [str(b.address) for b in blocks] == ["L0", "L1", "L2"]
    assert blocks[2].up.parameter == "model.more.0.up_proj.weight"


def test_a_plain_block_has_no_gate_to_read() -> None:
    with pytest.raises(AddressOutOfRange, match="plain and has no gate"):
        find_anatomy(tiny_model("gpt2")).blocks[0].view("gate")


def _activation(model: nn.Module, block: Block) -> nn.Module:
    module = model.get_submodule(block.module)
    names = ("act_fn", "act", "activation_fn")
    return next(getattr(module, name) for name in names if hasattr(module, name))


def _by_hand(block: Block, parameters: dict[str, Tensor], x: Tensor, act: nn.Module) -> Tensor:
    """y = W_down (act(W_gate x + b) ⊙ (W_up x + b)) + b, written out with the views' own rows."""

    def site(view: object) -> Tensor:
        rows, bias = view.vectors(parameters).double(), view.unit_biases(parameters)  # type: ignore[attr-defined]
        return x @ rows.T + (0.0 if bias is None else bias.double())

    up = site(block.up)
    key = act(up) if block.gate is None else act(site(block.gate)) * up
    bias = block.down.biases(parameters)
    return key @ block.down.vectors(parameters).double() + (0.0 if bias is None else bias.double())
