"""A tiny random model of any entry of transformers' causal-LM mapping, or of its mapping for images and text:
its own default config made small.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from analysis.checkpoints.wrappers.text_part import find_wrapper
from tests.contract.overrides import OVERRIDES, SMALL

MULTIMODAL: tuple[str, ...] = tuple(
    entry
    for entry in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    if entry not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
)
"""Entries that only the mapping of models for images and text has; their text model is what is opened."""
ENTRIES: tuple[str, ...] = (*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MULTIMODAL)
_OFTEN_LEFT_OUT = ("head_dim", "num_key_value_heads")
LARGEST = 8_000_000
"""Parameters above which a config was not shrunk well enough to be built."""


class CannotBuild(Exception):
    """No tiny model of this entry, and why."""


def build(entry: str, seed: int = 0) -> PreTrainedModel:
    """A tiny random float32 model. Raises CannotBuild with the reason."""
    try:
        with torch.device("meta"):
            size = sum(p.numel() for p in _unset(entry).parameters())
    except Exception as error:  # whatever a family's own code raises is the reason
        raise CannotBuild(f"{type(error).__name__}: {in_one_line(error)}") from error
    if size > LARGEST:
        raise CannotBuild(f"its smallest config still has {size:,} parameters")
    torch.manual_seed(seed)
    try:
        model = _unset(entry).float()
    except Exception as error:
        raise CannotBuild(f"{type(error).__name__}: {in_one_line(error)}") from error
    return disturbed(model)


def _unset(entry: str) -> PreTrainedModel:
    """The model as transformers makes it, a multimodal one whole. A decoder inside an audio model is made
    from its own config.
    """
    config = tiny_config(entry)
    wrapper = find_wrapper(config)
    if wrapper is not None:
        return wrapper(config)
    decoder = getattr(config, "decoder", None)
    if decoder is not None:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](decoder)
    return AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]


def disturbed(model: PreTrainedModel) -> PreTrainedModel:
    """The model with every weight, norm and bias off its default: zeros and ones hide errors."""
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        scale = 0.2 if parameter.dim() > 1 else 0.1
        parameter.data = (parameter.data if parameter.isfinite().all() else 0) + noise * scale
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def tiny_config(entry: str) -> Any:
    """The entry's own config with every size made small, sub-configs too."""
    changes = OVERRIDES.get(entry, {})
    config_class = CONFIG_MAPPING[entry]
    return _shrunk(config_class, changes)


def _shrunk(config_class: Any, changes: dict[str, Any]) -> Any:
    try:
        default = config_class()
    except Exception:  # some configs have no valid default; their overrides stand alone
        default = None
    settings: dict[str, Any] = {}
    known = {} if default is None else default.to_dict()
    aliases = getattr(config_class, "attribute_map", {})
    for name, value in SMALL.items():
        given = known.get(name) is not None or (name in known and name in _OFTEN_LEFT_OUT)
        if given and aliases.get(name, name) == name:
            settings[name] = value
    for name in getattr(config_class, "sub_configs", {}):
        sub = getattr(default, name, None)
        if sub is not None and name not in changes and hasattr(sub, "to_dict"):
            settings[name] = _shrunk(type(sub), changes.get(f"{name}.", {}))
    settings |= {name: value for name, value in changes.items() if not name.endswith(".")}
    return config_class(**settings)


def in_one_line(error: BaseException) -> str:
    """An error in one line, cut to what fits a table."""
    return " ".join(str(error).split())[:160]
