"""Every tensor of a checkpoint is used, left out on purpose, or named in a refusal; heads stored twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM

from analysis.errors import ModelError
from analysis.opening.models import LoadedModel, ModelRef, load_model
from tests.analysis.conftest import tiny_model, tiny_tokenizer
from tests.contract.builder import build

Weights = dict[str, Tensor]
UP, EMBED, HEAD = "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Callable[[Weights], Weights]) -> None:
    path = folder / "model.safetensors"
    changed = {key: tensor.contiguous().clone() for key, tensor in change(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})


def configure(folder: Path, **entries: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def opened_both_ways(folder: Path) -> list[LoadedModel]:
    return [load_model(ModelRef(str(folder), streamed=streamed)) for streamed in (False, True)]


def refused_both_ways(folder: Path, says: str) -> None:
    for streamed in (False, True):
        with pytest.raises(ModelError, match=says):
            load_model(ModelRef(str(folder), streamed=streamed))


def renamed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + key: tensor for key, tensor in weights.items()}


def quantised(suffix: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {UP.removesuffix("weight") + suffix: torch.ones(3)}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (renamed("_orig_mod."), r"hold '_orig_mod\.', as torch\.compile leaves them"),
        (renamed("module."), r"hold 'module\.', as DataParallel leaves them"),
        (renamed("model._orig_mod."), r"hold '_orig_mod\.', as torch\.compile leaves them"),
        (renamed("base_model.model."), r"hold 'base_model\.model\.', as peft leaves them"),
        (lambda w: w | {"v_head.summary.weight": torch.ones(1, 16)}, "of a head for another task"),
        (lambda w: w | {"score.weight": torch.ones(2, 16)}, "of a head for another task"),
        (quantised("qweight"), r"quantised weights \(GPTQ or AWQ: .*up_proj\.qweight\)"),
        (quantised("weight_scale"), r"quantised weights \(FP8, int8 or compressed-tensors: .*weight_scale\)"),
        (quantised("scales"), r"quantised weights \(GPTQ, AWQ or MLX: "),
        (lambda w: w | {"model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2)}, "adapter's weights"),
        (lambda w: w | {"model.layers.7.mlp.up_proj.weight": w[UP]}, r"config has 2 layers, .*layers\.7"),
        (
            lambda w: w | {"model.layers.0.self_attn.q_proj.bias": torch.ones(16)},
            "have no place in the Llama",
        ),
        (lambda w: w | {UP: (w[UP] * 100).to(torch.int8)}, "is stored as int8.* by which scale"),
    ],
)
def test_tensors_without_a_place_are_refused_with_the_reason(
    folder: Path, change: Callable[[Weights], Weights], says: str
) -> None:
    rewrite(folder, change)
    refused_both_ways(folder, says)


def test_tensors_that_the_model_ignores_on_purpose_are_left_out(folder: Path) -> None:
    before = load_model(ModelRef(str(folder))).parameters[UP]
    rewrite(folder, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    for loaded in opened_both_ways(folder):
        assert torch.equal(loaded.parameters[UP], before)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("gpt2", "transformer.h.0.attn.bias"),
        ("llama", "model.layers.0.self_attn.maybe_rotary.inv_freq"),
        ("llama", "model.embed_positions.weights"),
    ],
)
def test_masks_and_tables_that_older_versions_saved_are_left_out(tmp_path: Path, kind: str, key: str) -> None:
    tiny_model(kind).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    before = load_model(ModelRef(str(tmp_path)))
    rewrite(tmp_path, lambda w: w | {key: torch.ones(1, 1, 8, 8)})
    for loaded in opened_both_ways(tmp_path):
        assert all(torch.equal(loaded.parameters[n], p) for n, p in before.model.named_parameters())


def test_weights_of_another_shape_than_the_config_describes_are_named(folder: Path) -> None:
    configure(folder, vocab_size=98)
    said = r"lm_head\.weight has the shape \[97, 32\] in the weights, and config\.json describes \[98, 32\]"
    refused_both_ways(folder, said)


def test_weights_that_are_not_finite_are_named(folder: Path) -> None:
    rewrite(folder, lambda w: w | {UP: w[UP] * torch.nan})
    refused_both_ways(folder, r"up_proj\.weight holds NaN or infinity")


@pytest.mark.parametrize("kind", ["gpt_oss", "deepseek_v3", "gptj"])
def test_what_stays_in_float32_is_the_same_from_disk(tmp_path: Path, kind: str) -> None:
    build(kind).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    for dtype in ("bfloat16", "float16"):
        refs = [ModelRef(str(tmp_path), dtype=dtype, streamed=streamed) for streamed in (False, True)]
        memory, disk = (load_model(ref) for ref in refs)
        for name, parameter in memory.model.named_parameters():
            assert disk.parameters[name].dtype == parameter.dtype
            assert torch.equal(disk.parameters[name], parameter), name
        buffers = dict(disk.model.named_buffers())
        for name, buffer in memory.model.named_buffers():
            assert buffers[name].dtype == buffer.dtype
            assert torch.equal(buffers[name], buffer), name


def test_layers_that_predict_further_tokens_are_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = DeepseekV3Config(
        vocab_size=97, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, n_routed_experts=4, num_experts_per_tok=2, n_group=1,
        topk_group=1, n_shared_experts=1, first_k_dense_replace=1, q_lora_rank=None, kv_lora_rank=8,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, num_nextn_predict_layers=1,
    )  # fmt: skip
    folder = tmp_path / "plain"
    DeepseekV3ForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    further = shutil.copytree(folder, tmp_path / "further")
    rewrite(
        further,
        lambda w: (
            w
            | {k.replace("layers.1.", "layers.2."): t for k, t in w.items() if "layers.1." in k}
            | {"model.layers.2.enorm.weight": torch.ones(32)}
        ),
    )
    plain = load_model(ModelRef(str(folder)))
    for loaded in opened_both_ways(further):
        assert loaded.anatomy == plain.anatomy
        assert torch.equal(loaded.parameters[HEAD], plain.parameters[HEAD])
    configure(further, num_nextn_predict_layers=0)
    refused_both_ways(further, r"config has 2 layers, but its weights contain model\.layers\.2")


@pytest.mark.parametrize("same", [True, False])
def test_a_tied_head_with_a_tensor_of_its_own_is_as_in_transformers(folder: Path, same: bool) -> None:
    configure(folder, tie_word_embeddings=True)
    rewrite(folder, lambda w: w | {HEAD: w[EMBED] if same else w[EMBED].flip(0)})
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for loaded in opened_both_ways(folder):
        for name in (HEAD, EMBED):
            assert torch.equal(loaded.parameters[name], theirs.get_parameter(name)), name
        assert loaded.anatomy.head.tied is same


def test_float16_that_cannot_hold_a_weight_is_refused(folder: Path) -> None:
    refs = [ModelRef(str(folder), dtype="float16", streamed=streamed) for streamed in (False, True)]
    for ref in refs:
        load_model(ref)
    rewrite(folder, lambda w: w | {UP: w[UP] + 1e6 * (torch.arange(len(w[UP])) == 3)[:, None]})
    for ref in refs:
        with pytest.raises(ModelError, match=r"up_proj\.weight has values that are not finite in float16"):
            load_model(ref)
    load_model(ModelRef(str(folder), dtype="bfloat16"))
