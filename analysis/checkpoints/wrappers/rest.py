"""What a text model was taken out of: the whole model, and the tensors that it was opened without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig

from analysis.checkpoints.headers import read_stored_tensors
from analysis.checkpoints.loading import wrap_checkpoint
from analysis.checkpoints.wrappers.building import build_empty
from analysis.checkpoints.wrappers.text_part import LeftOut, find_left_out

PROCESSOR_FILES = (
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
)
"""Files that make the rest of a multimodal model usable."""


def build_whole(config: Any, left: LeftOut, dtype: torch.dtype) -> PreTrainedModel:
    """The whole multimodal model of a configuration, without weights."""
    return build_empty(lambda: left.whole._from_config(config, dtype=dtype), config)


def take_names(whole: PreTrainedModel, text: PreTrainedModel) -> None:
    """Have a whole model saved under the names that its checkpoint has: those that were converted to read
    what is left out, and to read its text model.
    """
    used = [*_list_conversions(whole), *_list_conversions(text)]
    marks = {_mark(conversion) for conversion in used}
    every = get_model_conversion_mapping(whole)
    whole._weight_conversions = [conversion for conversion in every if _mark(conversion) in marks]


def _list_conversions(model: PreTrainedModel) -> list[Any]:
    return list(getattr(model, "_weight_conversions", None) or ())


def _mark(conversion: Any) -> tuple[Any, ...]:
    patterns = (conversion._original_source_patterns, conversion._original_target_patterns)
    return type(conversion), *map(tuple, patterns), conversion.scope_prefix


def measure_left_out(folder: Path, model: PreTrainedModel) -> int:
    """Bytes, in a model's dtype, of the tensors in a folder that it was opened without."""
    left = find_left_out(model)
    if left is None:
        return 0
    stored = read_stored_tensors(folder)
    keys = left.list_keys(stored, model.state_dict())
    return sum(stored[key].numel for key in keys) * int(model.dtype.itemsize)


def read_left_out(folder: Path, whole: PreTrainedModel, left: LeftOut) -> dict[str, Tensor]:
    """The tensors that a text model was opened without, by their names in the whole model, in its dtype.

    whole: as `build_whole` made it; it holds these tensors afterwards.
    """
    stored, mapping = read_stored_tensors(folder), get_model_conversion_mapping(whole)
    own = set(whole.state_dict()) - left.names
    rest = {key: stored[key] for key in left.list_keys(stored, own)}
    loading = LoadStateDictConfig(
        device_map={"": "cpu"},
        dtype=whole.dtype,
        dtype_plan=whole._get_dtype_plan(whole.dtype),
        weight_mapping=mapping,
    )
    convert_and_load_state_dict_in_model(whole, wrap_checkpoint(whole, rest, mapping), loading)
    return {name: tensor for name, tensor in whole.state_dict().items() if name in left.names}
