"""A model's configuration, and what it already tells of whether the model can be read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from analysis.checkpoints.gguf.config import read_gguf_config
from analysis.checkpoints.quantised.weights import find_stated_quantisation, forget_quantisation
from analysis.checkpoints.weight_files import describe_adapter, find_weight_files
from analysis.checkpoints.wrappers.text_part import find_wrapper
from analysis.errors import NotAModel, NotCausal, UnsafeWeights, first_line

_CAUSAL_CLASS = re.compile(r"(ForCausalLM\w*|LMHeadModel|ModelWithLMHead|ForConditionalGeneration|Decoder)$")
_OTHER_TASK = re.compile(r"For(Sequence|Token|Image|Audio|Multiple|Next|Masked|Question|PreTraining|Reward)")
"""Classes of other tasks; transformers goes by model_type, whatever else the class is called."""
_OTHER_PARTS = ("vision_config", "audio_config", "vision_tower", "encoder_config")


def read_config(path: Path, *, weights_here: bool = True) -> Any:
    """The model's configuration, after all checks that are possible before reading weights. That of quantised
    weights describes them dequantised.

    weights_here: whether the weights lie in the folder; otherwise they were chosen at the Hub. Raises
    NotAModel, UnsafeWeights, NotCausal.
    """
    if path.is_file():
        found = read_gguf_config(path)
        _refuse_not_causal(path, found, {})
        return found
    stored = _read_json(path)
    if weights_here:
        find_weight_files(path)
    find_stated_quantisation(path, stored)
    kind = stored.get("model_type")
    if stored.get("auto_map") and kind not in CONFIG_MAPPING_NAMES:
        raise UnsafeWeights(
            f"{path} has custom code (auto_map) for its architecture {kind!r}, which Headlamp never runs; "
            "use a model whose architecture transformers supports"
        )
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers checks a config with many kinds of error
        raise NotAModel(f"{path}/config.json: {first_line(error)}") from error
    forget_quantisation(config)
    _refuse_not_causal(path, config, stored)
    return config


def _read_json(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    if not file.is_file():
        if (path / "adapter_config.json").is_file():
            raise NotAModel(describe_adapter(str(path), _adapter_base(path)))
        raise NotAModel(f"{path} has no config.json; use a folder in Hugging Face format")
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NotAModel(f"{file} is not JSON: {first_line(error)}") from error
    if not isinstance(stored, dict):
        raise NotAModel(f"{file} is not a model's configuration")
    return stored


def _adapter_base(path: Path) -> str | None:
    try:
        base = json.loads((path / "adapter_config.json").read_bytes()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return base if isinstance(base, str) else None


def _refuse_not_causal(path: Path, config: Any, stored: Mapping[str, Any]) -> None:
    listed = stored.get("architectures")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    kind = config.model_type
    what = names[0] if names else kind
    wrapper = find_wrapper(config)
    encodes = kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES and wrapper is None
    if config.is_encoder_decoder or encodes:
        raise NotCausal(f"{path} is an encoder–decoder ({kind}); Headlamp reads decoder-only models")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and wrapper is None:
        parts = [name for name in _OTHER_PARTS if getattr(config, name, None) is not None]
        if parts or kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
            raise NotCausal(
                f"{path} holds a {what}, a multimodal model for which transformers has no class that "
                "continues a text; save its language model alone with save_pretrained(…), and open that"
            )
        raise NotCausal(
            f"{path} holds a {what}, which predicts no next token; give a causal model (…ForCausalLM)"
        )
    causal = not names or any(_CAUSAL_CLASS.search(name) for name in names)
    other = any(_OTHER_TASK.search(name) for name in names)
    reads_both_ways = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if not causal and (reads_both_ways or other):
        raise NotCausal(
            f"{path} holds a {what}, which predicts no next token; give a causal model (…ForCausalLM)"
        )
