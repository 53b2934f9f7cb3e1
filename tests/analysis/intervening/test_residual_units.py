"""Clamps in × residual against plain transformers hooks: two passes, the first one reads the residual."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.errors import ClampError
from analysis.intervening.clamps import Clamp, Scope, parse_clamp
from analysis.intervening.interventions import check_changes, intervene
from analysis.intervening.residual_units import find_residual, name_unit, replace_first
from analysis.opening.models import LoadedModel, ModelRef, load_model
from analysis.recipes.recipes import read_recipe, use_recorded_raw, write_recipe_document
from analysis.running.batches import make_batches, run_batch
from analysis.running.generation import Sampling, generate_steps
from tests.analysis.conftest import FAMILIES, loaded_from, tiny_model
from tests.contract.builder import build

IDS = torch.tensor([[1, 5, 9, 4, 40, 11], [3, 8, 2, 60, 7, 11]])
POSITIONS = torch.arange(6).expand(2, -1)
TinyModel = Callable[[str], LoadedModel]
BEFORE_FFN = {"gpt2": "transformer.h.1.ln_2"}
"""The module that reads the residual: as one reads it in transformers' source."""
DOWN = {"gpt2": "transformer.h.1.mlp.c_proj"}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    """tiny(family) → a freshly built LoadedModel, of Qwen3-MoE too."""
    settings = FAMILIES["qwen2_moe"][1] | {"norm_topk_prob": True}
    monkeypatch.setitem(FAMILIES, "qwen3_moe", ("Qwen3MoeConfig", settings))
    return lambda family: loaded_from(tiny_model(family))


def read_input(model: nn.Module, name: str, ids: Tensor) -> Tensor:
    """The first input of a module in a plain pass."""
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
    model(ids)
    handle.remove()
    return seen[0]


def first_as_median(sizes: Tensor) -> Tensor:
    """Sizes (B, T) with position 0 at the lower median of the others; no padding."""
    sizes = sizes.clone()
    sizes[:, 0] = sizes[:, 1:].sort(1).values[:, (sizes.shape[1] - 2) // 2]
    return sizes


def put_in(model: nn.Module, name: str, neuron: int, mode: str, values: Tensor, ids: Tensor) -> Tensor:
    """Logits of a plain pass in which a hand-written hook holds one neuron."""

    def hook(module: nn.Module, args: Any) -> Any:
        changed = args[0].clone()
        old = changed[..., neuron]
        changed[..., neuron] = values if mode == "set" else old + values
        return (changed,)

    handle = model.get_submodule(name).register_forward_pre_hook(hook)
    logits = model(ids).logits
    handle.remove()
    return logits


def logits_under(loaded: LoadedModel, clamps: list[Clamp], ids: Tensor = IDS, length: int = 6) -> Tensor:
    positions = torch.arange(ids.shape[1]).expand(len(ids), -1)
    with intervene(loaded, clamps, positions=positions, prompt_length=length):
        return loaded.model(ids).logits


def down_column(loaded: LoadedModel, name: str, neuron: int) -> Tensor:
    weight = loaded.model.get_submodule(name).weight
    return weight[neuron] if "c_proj" in name else weight[:, neuron]


@pytest.mark.parametrize("mode", ["set", "add"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "phi3", "gemma"])
def test_a_dense_clamp_writes_c_times_the_residual(tiny: TinyModel, family: str, mode: str) -> None:
    loaded = tiny(family)
    down = DOWN.get(family, "model.layers.1.mlp.down_proj")
    norm = BEFORE_FFN.get(family, "model.layers.1.post_attention_layernorm")
    sizes = first_as_median(read_input(loaded.model, norm, IDS).norm(dim=-1))
    values = -1.5 * sizes / down_column(loaded, down, 7).norm()
    ours = logits_under(loaded, [parse_clamp(f"L1.N7:{mode}:-1.5r")])
    torch.testing.assert_close(ours, put_in(loaded.model, down, 7, mode, values, IDS), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, loaded.model(IDS).logits, atol=1e-2)


@pytest.mark.parametrize("mode", ["set", "add"])
def test_behind_a_norm_of_its_own_the_blocks_output_is_the_measure(tiny: TinyModel, mode: str) -> None:
    loaded = tiny("gemma2")
    down = "model.layers.1.mlp.down_proj"
    written = read_input(loaded.model, "model.layers.1.post_feedforward_layernorm", IDS)
    values = 1.5 * first_as_median(written.norm(dim=-1)) / down_column(loaded, down, 7).norm()
    clamp = parse_clamp(f"L1.N7:{mode}:1.5r")
    ours = logits_under(loaded, [clamp])
    torch.testing.assert_close(ours, put_in(loaded.model, down, 7, mode, values, IDS), rtol=1e-5, atol=1e-5)
    assert name_unit(loaded, clamp) == "× block"
    assert name_unit(tiny("gemma"), clamp) == "× residual"


@pytest.mark.parametrize("mode", ["set", "add"])
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_an_expert_neuron_is_divided_by_its_routing_weight(tiny: TinyModel, family: str, mode: str) -> None:
    loaded = tiny(family)
    experts = loaded.model.model.layers[1].mlp.experts
    h = read_input(loaded.model, "model.layers.1.post_attention_layernorm", IDS)
    sizes = first_as_median(h.norm(dim=-1)).reshape(-1, 1)
    ours = logits_under(loaded, [parse_clamp(f"L1.E2.N7:{mode}:1.5r")])

    def by_hand(hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros_like(hidden)
        for expert in range(4):
            gate, up = (hidden @ experts.gate_up_proj[expert].T).chunk(2, -1)
            key = experts.act_fn(gate) * up
            share = (weights * (chosen == expert)).sum(-1, keepdim=True)
            column = experts.down_proj[expert][:, 7]
            if expert == 2:
                value = 1.5 * sizes / (column.norm() * share.clamp(min=1e-30))
                old = key[:, 7:8]
                key[:, 7:8] = torch.where(share > 0, value if mode == "set" else old + value, old)
            total = total + share * (key @ experts.down_proj[expert].T)
        return total

    plain = loaded.model(IDS).logits
    experts.forward = by_hand
    torch.testing.assert_close(ours, loaded.model(IDS).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours, plain, atol=1e-2)


def test_a_routing_weight_of_0_counts_as_not_routed(tiny: TinyModel) -> None:
    loaded = tiny("mixtral")
    clamps = [parse_clamp(f"L1.E{e}.N7:set:1.5r") for e in range(4)]
    experts = loaded.model.get_submodule("model.layers.1.mlp.experts")

    def no_weight(module: nn.Module, args: Any) -> Any:
        hidden, chosen, weights = args
        return hidden, chosen, weights * (chosen != 2)

    with intervene(loaded, clamps, positions=POSITIONS, prompt_length=6) as reach:
        handle = experts.register_forward_pre_hook(no_weight, prepend=True)
        logits = loaded.model(IDS).logits
        handle.remove()
    assert logits.isfinite().all()
    assert reach.covered == [12] * 4
    assert reach.acted[2] == 0 < reach.acted[1]
    assert reach.used[2] == []
    assert len(reach.used[1]) == reach.acted[1]


def test_a_shared_expert_is_measured_as_a_dense_block(tiny: TinyModel) -> None:
    loaded = tiny("qwen2_moe")
    down = "model.layers.1.mlp.shared_expert.down_proj"
    h = read_input(loaded.model, "model.layers.1.post_attention_layernorm", IDS)
    values = first_as_median(h.norm(dim=-1)) / down_column(loaded, down, 7).norm()
    ours = logits_under(loaded, [parse_clamp("L1.S0.N7:set:1r")])
    shaped = values.reshape(-1) if read_input(loaded.model, down, IDS).dim() == 2 else values
    torch.testing.assert_close(ours, put_in(loaded.model, down, 7, "set", shaped, IDS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["set", "add"])
def test_experts_behind_a_norm_are_measured_by_what_they_write_together(mode: str) -> None:
    loaded = loaded_from(build("flex_olmo"))
    layer = loaded.model.model.layers[1]
    assert name_unit(loaded, parse_clamp("L1.E2.N7:set:1r")) == "× block"
    written = read_input(loaded.model, "model.layers.1.post_feedforward_layernorm", IDS)
    sizes = first_as_median(written.norm(dim=-1)).reshape(-1, 1)
    ours = logits_under(loaded, [parse_clamp(f"L1.E2.N7:{mode}:1.5r")])
    plain = loaded.model(IDS).logits
    seen: list[Any] = []

    def add_difference(module: Any, args: Any, output: Tensor) -> Tensor:
        hidden, chosen, weights = args
        share = (weights * (chosen == 2)).sum(-1, keepdim=True)
        gate, up = (hidden @ module.gate_up_proj[2].T).chunk(2, -1)
        old = (module.act_fn(gate) * up)[:, 7:8]
        column = module.down_proj[2][:, 7]
        new = 1.5 * sizes / (column.norm() * share.clamp(min=1e-30)) + (old if mode == "add" else 0)
        seen.append(share)
        return output + torch.where(share > 0, share * (new - old), 0.0) * column

    handle = layer.mlp.experts.register_forward_hook(add_difference)
    torch.testing.assert_close(ours, loaded.model(IDS).logits, rtol=1e-4, atol=1e-4)
    handle.remove()
    assert (seen[0] > 0).any()
    assert not torch.allclose(ours, plain, atol=1e-2)


def test_states_with_time_first_are_read_by_row_and_position() -> None:
    loaded = loaded_from(build("xlnet"))
    down = "transformer.layer.1.ff.layer_2"
    residual = read_input(loaded.model, "transformer.layer.1.ff.layer_1", IDS)
    assert residual.shape[:2] == (6, 2)
    sizes = first_as_median(residual.norm(dim=-1).T).T
    values = 1.5 * sizes / loaded.model.get_submodule(down).weight[:, 7].norm()
    ours = logits_under(loaded, [parse_clamp("L1.N7:set:1.5r")])
    by_hand = put_in(loaded.model, down, 7, "set", values, IDS)
    torch.testing.assert_close(ours, by_hand, rtol=1e-5, atol=1e-5)


def test_an_earlier_clamp_is_in_the_residual_of_a_later_block(llama: LoadedModel) -> None:
    first, second = parse_clamp("L0.N3:set:9").resolve(largest=1, mean=0), parse_clamp("L1.N7:set:1.5r")
    with intervene(llama, [first], positions=POSITIONS, prompt_length=6):
        h = read_input(llama.model, "model.layers.1.post_attention_layernorm", IDS)
    column = llama.model.model.layers[1].mlp.down_proj.weight[:, 7]
    values = 1.5 * first_as_median(h.norm(dim=-1)) / column.norm()
    with intervene(llama, [first], positions=POSITIONS, prompt_length=6):
        by_hand = put_in(llama.model, "model.layers.1.mlp.down_proj", 7, "set", values, IDS)
    torch.testing.assert_close(logits_under(llama, [first, second]), by_hand, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(by_hand, logits_under(llama, [second]), atol=1e-3)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
@pytest.mark.parametrize(("scope", "hit"), [("last", [3]), ("2-3", [2, 3]), ("generated", [4, 5])])
def test_a_scope_holds_its_positions_alone(tiny: TinyModel, family: str, scope: str, hit: list[int]) -> None:
    loaded = tiny(family)
    names = [f"L0.E{e}.N7" for e in range(4)] if family == "mixtral" else ["L0.N7"]
    clamps = [parse_clamp(f"{name}:set:2r@{scope}") for name in names]
    with intervene(loaded, clamps, positions=POSITIONS, prompt_length=4) as reach:
        changed = loaded.model(IDS).logits
    plain = loaded.model(IDS).logits
    torch.testing.assert_close(changed[:, : hit[0]], plain[:, : hit[0]], rtol=1e-6, atol=1e-6)
    assert not torch.allclose(changed[:, hit[0]], plain[:, hit[0]], atol=1e-3)
    assert (
        sum(len(values) for values in reach.used)
        == sum(reach.acted)
        == 2 * len(hit) * (2 if family == "mixtral" else 1)
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "mixtral"])
def test_new_tokens_see_their_own_residual_from_the_cache(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    names = [f"L0.E{e}.N7" for e in range(4)] if family == "mixtral" else ["L0.N7"]
    clamps = [parse_clamp(f"{name}:add:1r@1-60") for name in names]
    ids = [1, 5, 9, 4]
    steps = list(generate_steps(loaded, ids, clamps, Sampling(5)))
    said = [step.tokens[1] for step in steps if step.tokens[1] is not None]
    whole = torch.tensor([[*ids, *said[:-1]]])
    logits = logits_under(loaded, clamps, whole, 4)[0, 3:].log_softmax(-1)
    for step, row in zip(steps, logits, strict=False):
        torch.testing.assert_close(step.log_probabilities[1], row, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mixtral", "gemma2"])
def test_padding_on_the_left_changes_nothing(tiny: TinyModel, family: str) -> None:
    loaded = tiny(family)
    names = [f"L0.E{e}.N7" for e in range(4)] if family == "mixtral" else ["L0.N7"]
    clamps = [parse_clamp(f"{name}:set:1.5r") for name in names]
    sequences = [[5, 9, 4], [1, 5, 9, 4, 40, 11, 12]]
    (both,) = make_batches(loaded, sequences)
    padded, _ = run_batch(loaded, both, clamps)
    for row, sequence in enumerate(sequences):
        (alone,) = make_batches(loaded, [sequence])
        torch.testing.assert_close(padded[row], run_batch(loaded, alone, clamps)[0][0], rtol=1e-4, atol=1e-4)


def test_position_0_takes_the_median_of_the_others_and_alone_its_own() -> None:
    sizes = torch.tensor([[9.0, 900.0, 2.0, 4.0, 8.0], [7.0, 7.0, 7.0, 7.0, 50.0], [900.0, 1.0, 2, 3, 5]])
    positions = torch.tensor([[-1, 0, 1, 2, 3], [-1, -1, -1, -1, 0], [4, 5, 6, 7, 8]])
    found = replace_first(sizes, positions)
    assert found[0].tolist()[1:] == [4.0, 2.0, 4.0, 8.0]
    assert found[1, 4] == 50.0
    assert torch.equal(found[2], sizes[2])


def test_position_0_is_the_same_with_and_without_an_answer_behind_the_prompt() -> None:
    sizes = torch.tensor([[900.0, 2.0, 4.0, 8.0, 50.0, 60.0, 70.0], [900.0, 7.0, 50.0, 60.0, 1.0, 2.0, 3.0]])
    positions = torch.arange(7).expand(2, -1)
    found = replace_first(sizes, positions, torch.tensor([4, 1]))
    assert found[:, 0].tolist() == [4.0, 900.0]
    assert torch.equal(found[:, 1:], sizes[:, 1:])
    assert torch.equal(found[:1, :4], replace_first(sizes[:1, :4], positions[:1, :4]))
    unknown = replace_first(sizes, positions, torch.tensor([0, 0]))
    assert torch.equal(unknown, replace_first(sizes, positions))


def test_a_block_whose_residual_is_not_found_is_refused(llama: LoadedModel, monkeypatch: Any) -> None:
    monkeypatch.setattr("analysis.intervening.residual_units.find_residual_places", lambda trace, blocks: {})
    with pytest.raises(ClampError, match="cannot be told from the structure; give the value as 8x"):
        check_changes(llama, [parse_clamp("L1.N7:set:1.5r")])


def test_a_norm_that_is_not_understood_leaves_no_residual(llama: LoadedModel) -> None:
    """The layer's input would fit as well, since attention and block add up to the difference."""

    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.abs().amax(-1, keepdim=True).rsqrt()

    for layer in llama.model.model.layers:
        layer.post_attention_layernorm = Odd()
    with pytest.raises(ClampError, match="cannot be told"):
        check_changes(llama, [parse_clamp("L1.N7:set:1.5r")])


def test_a_neuron_that_writes_nothing_is_refused(llama: LoadedModel) -> None:
    llama.model.model.layers[1].mlp.down_proj.weight.data[:, 7] = 0
    with pytest.raises(ClampError, match="its down vector is 0"):
        check_changes(llama, [parse_clamp("L1.N7:set:1.5r")])


def test_parallel_attention_reads_the_layers_input() -> None:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(1)
    config = GPTNeoXConfig(
        vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4
    )
    assert config.use_parallel_residual
    model = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    loaded = loaded_from(model)
    down = "gpt_neox.layers.1.mlp.dense_4h_to_h"
    sizes = first_as_median(read_input(model, "gpt_neox.layers.1", IDS).norm(dim=-1))
    values = 1.5 * sizes / model.get_submodule(down).weight[:, 7].norm()
    ours = logits_under(loaded, [parse_clamp("L1.N7:set:1.5r")])
    torch.testing.assert_close(ours, put_in(model, down, 7, "set", values, IDS), rtol=1e-5, atol=1e-5)


def test_a_recipe_keeps_unit_c_and_the_values_used(llama: LoadedModel) -> None:
    clamp = parse_clamp("L1.N7:set:-1.5r@2-4")
    with intervene(llama, [clamp], positions=POSITIONS, rows=[[1]], prompt_length=6) as reach:
        llama.model(IDS)
    document = json.loads(json.dumps(write_recipe_document(llama, [clamp], reach.used)))
    (entry,) = document["interventions"]
    h = read_input(llama.model, "model.layers.1.post_attention_layernorm", IDS)[1, 2:5]
    values = -1.5 * h.norm(dim=-1) / llama.model.model.layers[1].mlp.down_proj.weight[:, 7].norm()
    assert (entry["unit"], entry["value"]) == ("residual", -1.5)
    assert entry["raw"] == pytest.approx(values.tolist(), rel=1e-4)
    assert read_recipe(document) == [clamp] == list(use_recorded_raw(document))
    assert write_recipe_document(llama, [clamp])["interventions"][0]["raw"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("L1.N7:up:set:1r", "is for its key"),
        ("L1.N7:gate:add:1r", "is for its key"),
        ("L1.N7:scale:2r", "plain number, without x or r"),
        ("L1.N7:set:infr", "not finite"),
        ("L1.N7:set:rr", "not a number"),
        ("L1.N7:set:2rx", "not a number"),
    ],
)
def test_a_clamp_in_residual_units_that_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(ClampError, match=said):
        parse_clamp(text)


def test_a_clamp_in_residual_units_is_written_as_it_is_read() -> None:
    clamp = parse_clamp("L29.N808:set:1.5R@last")
    assert (clamp.value, clamp.unit, clamp.scope) == (1.5, "residual", Scope("last"))
    assert str(clamp) == "L29.N808:key:set:1.5r@last"
    assert not clamp.needs_profile
    assert clamp.resolve(largest=0.0, mean=0.0) == clamp
    with pytest.raises(ClampError, match="raw value of its own"):
        replace(clamp, raw=3.0)


@pytest.mark.real
@pytest.mark.parametrize("address", ["L0.N5", "L4.N20"])
def test_a_trained_model_is_clamped_as_plain_hooks_clamp_it(real_folder: Path, address: str) -> None:
    folder = real_folder / "models" / "stories260K"
    if not folder.is_dir():
        pytest.skip(f"no stories260K model at {folder}")
    loaded = load_model(ModelRef(str(folder)))
    clamp = parse_clamp(f"{address}:set:1.5r")
    layer, neuron = clamp.address.block.layer, clamp.address.neuron
    assert not find_residual(loaded, clamp, loaded.anatomy.block(clamp.address)).own_output
    down = f"model.layers.{layer}.mlp.down_proj"
    ids = torch.tensor([loaded.tokenizer.encode("Once upon a time, there was a")])
    sizes = read_input(loaded.model, f"model.layers.{layer}.post_attention_layernorm", ids).norm(dim=-1)
    values = 1.5 * first_as_median(sizes) / down_column(loaded, down, neuron).norm()
    with torch.no_grad():
        ours = logits_under(loaded, [clamp], ids, ids.shape[1])
        torch.testing.assert_close(
            ours, put_in(loaded.model, down, neuron, "set", values, ids), rtol=1e-5, atol=1e-5
        )
