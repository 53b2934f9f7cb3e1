"""Tiny random multimodal models, whole, as transformers makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.analysis.conftest import COMMON, MOE, VOCAB, tiny_tokenizer

IDS = torch.tensor([[1, 5, 9, 40, 7, 30, 3]])
IMAGE = {f"{what}_token_{form}": VOCAB - 1 for what in ("image", "video") for form in ("id", "index")}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
QWEN_VISION = {
    "depth": 1,
    "embed_dim": 16,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 4,
    "out_hidden_size": 32,
    "fullatt_block_indexes": [0],
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}
LLAVA = {
    "text_config": COMMON | {"model_type": "llama"},
    "vision_config": VISION | {"model_type": "clip_vision_model"},
}
PIXTRAL = VISION | {"model_type": "pixtral", "head_dim": 8}
QWEN = {"text_config": COMMON | ROPE, "vision_config": QWEN_VISION} | IMAGE
WRAPPERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma3": (
        "Gemma3",
        {"text_config": COMMON, "mm_tokens_per_image": 4, "vision_config": VISION | {"num_channels": 3}},
    ),
    "qwen2_vl": ("Qwen2VL", QWEN),
    "qwen2_5_vl": ("Qwen2_5_VL", QWEN),
    "qwen3_vl": ("Qwen3VL", QWEN),
    "qwen3_vl_moe": ("Qwen3VLMoe", QWEN | {"text_config": COMMON | ROPE | MOE}),
    "llava": ("Llava", LLAVA | IMAGE),
    "llava_next": ("LlavaNext", LLAVA | IMAGE),
    "mistral3": (
        "Mistral3",
        {"text_config": COMMON | {"model_type": "mistral"}, "vision_config": PIXTRAL} | IMAGE,
    ),
    "llama4": (
        "Llama4",
        {
            "text_config": COMMON
            | {"intermediate_size_mlp": 48, "num_local_experts": 4, "interleave_moe_layer_step": 2},
            "vision_config": VISION
            | {"vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
        },
    ),
    "idefics3": (
        "Idefics3",
        {"text_config": COMMON | {"model_type": "llama"}, "vision_config": VISION, "scale_factor": 2} | IMAGE,
    ),
    "internvl": (
        "InternVL",
        {
            "text_config": COMMON | {"model_type": "qwen2"},
            "vision_config": VISION | {"image_size": [16, 16], "patch_size": [8, 8]},
        }
        | IMAGE,
    ),
}


def whole_model(family: str) -> PreTrainedModel:
    """A random float32 model with its vision tower; every weight is off its default."""
    name, settings = WRAPPERS[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        parameter.data = noise * 0.3 if parameter.dim() > 1 else parameter.data + noise * 0.1
    return model.requires_grad_(False)


def made_wrapper(family: str, folder: Path, *, named_as_now: bool = False) -> Path:
    """The same with a tokenizer in a folder: tensors under the names that transformers saves them by, which
    are those of the released checkpoints, or by those that its modules have today.
    """
    model = whole_model(family)
    model.save_pretrained(folder)
    if named_as_now:
        gone = set(model.all_tied_weights_keys)
        state = {name: value.clone() for name, value in model.state_dict().items() if name not in gone}
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    return folder


def logits(model: PreTrainedModel, **options: Any) -> Tensor:
    """(T, V) logits of a text without images."""
    with torch.inference_mode():
        return model(input_ids=IDS, **options).logits[0]
