"""Adapters merged on load, held against peft's own merging."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from analysis.errors import NotAModel, UnsafeWeights
from analysis.opening.models import ModelRef, load_model
from tests.analysis.checkpoints.adapters.adapters_made import (
    logits,
    made_adapter,
    made_base,
    opened,
    peft_logits,
)

PROJECTIONS = ["q_proj", "down_proj"]
QUERY = "model.layers.0.self_attn.q_proj"
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {"target_modules": PROJECTIONS}),
    "every linear": ("llama", {"target_modules": "all-linear"}),
    "patterns": (
        "llama",
        {"target_modules": PROJECTIONS, "rank_pattern": {"q_proj": 2}}
        | {"alpha_pattern": {"layers.1.mlp.down_proj": 20}},
    ),
    "rank-stabilised": ("llama", {"target_modules": PROJECTIONS, "use_rslora": True}),
    "Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    "DoRA": ("llama", {"target_modules": PROJECTIONS, "use_dora": True}),
    "DoRA of Conv1D": ("gpt2", {"target_modules": ["c_fc"], "fan_in_fan_out": True, "use_dora": True}),
    "biases": ("qwen2", {"target_modules": ["q_proj"], "bias": "all"}),
    "bias of B": ("qwen2", {"target_modules": ["q_proj"], "lora_bias": True}),
    "embedding": ("llama", {"target_modules": ["embed_tokens"]}),
    "DoRA of the embedding": ("llama", {"target_modules": ["embed_tokens"], "use_dora": True}),
    "head": ("llama", {"target_modules": ["lm_head"]}),
    "saved whole": (
        "llama",
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    ),
    "tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [3, 40]}),
    "fused experts": ("qwen2_moe", {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}),
    "one of the fused": (
        "mixtral",
        {"target_parameters": ["experts.down_proj"], "target_modules": ["q_proj"]},
    ),
    "fused gate and up": ("phi3", {"target_modules": ["gate_up_proj", "qkv_proj"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_merged_adapter_gives_the_logits_that_peft_gives(form: str, tmp_path: Path) -> None:
    family, settings = FORMS[form]
    base = made_base(tmp_path / "base", family)
    adapter = made_adapter(base, tmp_path / "adapter", **settings)
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    wanted = peft_logits(base, adapter)
    torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - logits(opened(base))).abs().max() > 0.01, "the adapter does nothing"
    streamed = load_model(ModelRef(f"{base}+{adapter}", streamed=True))
    for name, parameter in loaded.parameters.items():
        assert torch.equal(streamed.parameters[name], parameter), name
    assert streamed.fingerprint == loaded.fingerprint


def test_an_adapter_from_before_experts_were_fused_is_merged_as_peft_converts_it(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base", "mixtral")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["target_modules"] = ["w1", "w2", "w3"]
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    shapes = {"w1": (56, 32), "w2": (32, 56), "w3": (56, 32)}
    tensors = {}
    for layer, expert, (name, (out, width)) in (
        (layer, expert, item) for layer in range(2) for expert in range(4) for item in shapes.items()
    ):
        module = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}"
        tensors[f"{module}.lora_A.weight"] = torch.randn(4, width) * 0.3
        tensors[f"{module}.lora_B.weight"] = torch.randn(out, 4) * 0.3
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    found = logits(load_model(ModelRef(f"{base}+{adapter}")).model)
    torch.testing.assert_close(found, peft_logits(base, adapter), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "stays_tied"),
    [
        ({"target_modules": ["lm_head"]}, False),
        ({"target_modules": ["embed_tokens"]}, False),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, False),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [3, 40]}, True),
    ],
)
def test_a_tied_head_is_untied_where_only_one_of_the_two_changes(
    settings: dict[str, Any], stays_tied: bool, tmp_path: Path
) -> None:
    base = made_base(tmp_path / "base", tie_word_embeddings=True)
    adapter = made_adapter(base, tmp_path / "adapter", **settings)
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    wanted = peft_logits(base, adapter, merged=False)
    torch.testing.assert_close(logits(loaded.model), wanted, rtol=1e-4, atol=1e-4)
    assert loaded.anatomy.head.tied == stays_tied == loaded.model.config.tie_word_embeddings
    if stays_tied:
        load_model(ModelRef(f"{base}+{adapter}", streamed=True))
    else:
        with pytest.raises(Exception, match="are one weight on disk, so it cannot be decoded from disk"):
            load_model(ModelRef(f"{base}+{adapter}", streamed=True))


def test_a_layer_that_is_read_again_from_disk_is_merged_once(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=PROJECTIONS)
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    streamed = load_model(ModelRef(f"{base}+{adapter}", streamed=True))
    for name in [*loaded.parameters, *loaded.parameters]:
        assert torch.equal(streamed.parameters[name], loaded.parameters[name]), name


def test_a_merge_in_bfloat16_rounds_once(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    weights = {key: value.bfloat16() for key, value in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["down_proj"])
    name = "model.layers.1.mlp.down_proj"
    own = load_file(adapter / "adapter_model.safetensors")
    down, up = (own[f"base_model.model.{name}.lora_{side}.weight"] for side in "AB")
    wanted = (weights[f"{name}.weight"].float() + 6 / 4 * up @ down).bfloat16()
    loaded = load_model(ModelRef(f"{base}+{adapter}", dtype="bfloat16"))
    assert torch.equal(loaded.parameters[f"{name}.weight"], wanted)


def test_the_fingerprint_is_of_base_and_adapter_and_a_changed_adapter_is_noticed(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    plain = load_model(ModelRef(str(base)))
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=PROJECTIONS)
    loaded = load_model(ModelRef(f"{base}+{adapter}"))
    other = made_adapter(base, tmp_path / "other", target_modules=PROJECTIONS, lora_alpha=7)
    again = load_model(ModelRef(f"{base}+{other}"))
    assert len({plain.fingerprint, loaded.fingerprint, again.fingerprint}) == 3
    assert not loaded.changed_on_disk
    (adapter / "adapter_config.json").write_bytes((other / "adapter_config.json").read_bytes())
    assert loaded.changed_on_disk
    assert not plain.changed_on_disk


def _settings(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "adapter_config.json").read_text()) | changed
    (folder / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"peft_type": "LOHA"}, "is an adapter of kind LOHA, and Headlamp reads LoRA"),
        ({"layer_replication": [[0, 2]]}, r"repeats layers of its base \(layer_replication"),
        ({"alora_invocation_tokens": [3]}, "acts only behind the tokens that invoke it"),
        ({"init_lora_weights": "pissa_niter_4"}, "was begun by pissa_niter_4, which changed its base's"),
        ({"r": 0}, "is not an adapter's configuration: ranks must be from 1"),
        ({"r": 8}, "the rank 8, its weights have 4; use the adapter_config.json that belongs"),
        ({"r": "many"}, "is not an adapter's configuration"),
        ({"rank_pattern": {"(": 2}}, "is not an adapter's configuration"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused_with_the_reason(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=PROJECTIONS)
    _settings(adapter, **changed)
    with pytest.raises(NotAModel, match=message):
        load_model(ModelRef(f"{base}+{adapter}"))


def test_an_adapter_for_another_model_is_refused_and_its_own_is_named(tmp_path: Path) -> None:
    base, wider = made_base(tmp_path / "base"), made_base(tmp_path / "wider", intermediate_size=64)
    deeper = made_base(tmp_path / "deeper", num_hidden_layers=3)
    for other, reason in (
        (wider, r"down_proj as \[32, 64\]"),
        (deeper, r"layers\.2\.\S+, which .* not have"),
    ):
        adapter = made_adapter(other, tmp_path / f"for-{other.name}", target_modules=["down_proj"])
        with pytest.raises(NotAModel, match=f"{reason}.* made for {other}"):
            load_model(ModelRef(f"{base}+{adapter}"))


def test_a_pickled_adapter_is_never_read(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=PROJECTIONS)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UnsafeWeights, match="pickled weights only"):
        load_model(ModelRef(f"{base}+{adapter}"))


def test_a_tensor_that_belongs_nowhere_is_refused(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=PROJECTIONS)
    tensors = load_file(adapter / "adapter_model.safetensors") | {"base_model.model.extra": torch.ones(1)}
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(NotAModel, match="changes extra, which"):
        load_model(ModelRef(f"{base}+{adapter}"))
    del (
        tensors["base_model.model.extra"],
        tensors["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"],
    )
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(NotAModel, match=r"layers\.0\.mlp\.down_proj are not a pair"):
        load_model(ModelRef(f"{base}+{adapter}"))


def _damage(folder: Path, name: str, value: torch.Tensor) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(tensors | {f"base_model.model.{name}": value}, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("family", "tensors", "message"),
    [
        (
            "llama",
            {"model.norm.lora_A.weight": (4, 32), "model.norm.lora_B.weight": (32, 4)},
            "it is a vector",
        ),
        (
            "llama",
            {"model.layers.0.self_attn.q_proj.lora_magnitude_vector": (3,)},
            r"as \[3\], and .* \[32\]",
        ),
        ("qwen2", {"model.layers.0.self_attn.q_proj.lora_B.bias": (3,)}, r"as \[3\], and .* \[32\]"),
        (
            "mixtral",
            {
                "model.layers.0.block_sparse_moe.experts.9.w1.lora_A.weight": (4, 32),
                "model.layers.0.block_sparse_moe.experts.9.w1.lora_B.weight": (56, 4),
            },
            r"experts\.9\.w1, which .* does not have",
        ),
        ("llama", {"model.embed_tokens.token_adapter.trainable_tokens_delta": (2, 32)}, "tokens 3 to 97"),
    ],
)
def test_a_tensor_of_another_form_is_refused_in_memory_and_from_disk(
    family: str, tensors: dict[str, tuple[int, ...]], message: str, tmp_path: Path
) -> None:
    base = made_base(tmp_path / "base", family)
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    _settings(adapter, trainable_token_indices=[3, 97])
    for name, shape in tensors.items():
        _damage(adapter, name, torch.ones(shape))
    for streamed in (False, True):
        with pytest.raises(NotAModel, match=message):
            load_model(ModelRef(f"{base}+{adapter}", streamed=streamed))


def test_an_adapter_that_breaks_the_weights_is_refused(tmp_path: Path) -> None:
    base = made_base(tmp_path / "base")
    adapter = made_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    _damage(adapter, "model.layers.1.self_attn.q_proj.lora_A.weight", torch.full((4, 32), torch.nan))
    with pytest.raises(NotAModel, match=r"makes model\.layers\.1\.self_attn\.q_proj\.weight NaN or infinite"):
        load_model(ModelRef(f"{base}+{adapter}"))
