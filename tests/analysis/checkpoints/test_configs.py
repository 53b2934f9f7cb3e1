"""What a configuration tells before any weight is read: every refusal gives the true reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from analysis.checkpoints.configs import read_config
from analysis.errors import NotAModel, NotCausal, UnsafeWeights
from analysis.opening.models import ModelRef, load_model
from tests.analysis.conftest import tiny_model, tiny_tokenizer

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def configure(folder: Path, **entries: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_custom_code_beside_an_architecture_of_transformers_is_not_needed(folder: Path) -> None:
    configure(folder, auto_map={"AutoModelForCausalLM": "modeling.Evil"})
    (folder / "modeling.py").write_text("raise SystemExit('ran')")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    loaded = load_model(ModelRef(str(folder)))
    assert torch.equal(loaded.parameters[UP], theirs.get_parameter(UP))
    configure(folder, model_type="evil")
    with pytest.raises(UnsafeWeights, match=r"custom code .* for its architecture 'evil'"):
        read_config(folder)


def test_a_model_saved_without_its_tied_head_is_opened(folder: Path) -> None:
    configure(folder, tie_word_embeddings=True, architectures=["LlamaModel"])
    path = folder / "model.safetensors"
    weights = {k.removeprefix("model."): t for k, t in load_file(path).items() if k != "lm_head.weight"}
    save_file(weights, path, metadata={"format": "pt"})
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for streamed in (False, True):
        loaded = load_model(ModelRef(str(folder), streamed=streamed))
        for name in (UP, "lm_head.weight"):
            assert torch.equal(loaded.parameters[name], theirs.get_parameter(name))


@pytest.mark.parametrize("name", ["MyLlama", "GPT", "LlamaForCausalLMWithValueHead", "LlamaForTraining"])
def test_the_class_a_model_was_saved_as_does_not_matter(folder: Path, name: str) -> None:
    configure(folder, architectures=[name])
    assert load_model(ModelRef(str(folder))).anatomy.architecture == "LlamaForCausalLM"


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"quantization_config": {"quant_method": "hqq"}}, r"\(quantization_config in .*quantised as hqq"),
        ({"quantization_config": {"bits": 4}}, "quantised to 4 bits"),
        ({"quantization_config": {"x": 1}}, "quantised by a method it does not name"),
        (
            {"text_config": {"quantization_config": {"quant_method": "quark"}}},
            r"\(text_config\.quant.*as quark",
        ),
        ({"compression_config": {"quant_method": "vptq"}}, r"\(compression_config in .*as vptq"),
        ({"quantization": {"bits": 4, "group_size": 64}}, "quantised to 4 bits"),
    ],
)
def test_quantised_weights_are_refused_by_their_name(
    folder: Path, entries: dict[str, Any], says: str
) -> None:
    configure(folder, **entries)
    with pytest.raises(NotAModel, match=says):
        read_config(folder)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        (
            {"model_type": "clip", "architectures": ["CLIPModel"]},
            "a CLIPModel, a multimodal model for which transformers has no class that continues a text",
        ),
        (
            {"model_type": "llama", "architectures": ["LlamaForTokenClassification"]},
            "which predicts no next token",
        ),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "a BertModel, which predicts no next token"),
        ({"model_type": "t5", "architectures": ["T5Model"]}, "is an encoder–decoder"),
    ],
)
def test_other_kinds_of_models_are_refused_with_the_true_reason(
    folder: Path, entries: dict[str, Any], says: str
) -> None:
    (folder / "config.json").write_text(json.dumps(entries))
    with pytest.raises(NotCausal, match=says):
        read_config(folder)


def test_an_adapter_alone_names_its_base(folder: Path) -> None:
    (folder / "config.json").unlink()
    base = {"base_model_name_or_path": "org/base"}
    (folder / "adapter_config.json").write_text(json.dumps(base))
    with pytest.raises(NotAModel, match=r"holds an adapter \(LoRA\) for org/base, not a model; open it"):
        read_config(folder)
