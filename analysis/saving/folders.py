"""A model with changed parameters as a folder that transformers opens."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from analysis.checkpoints.wrappers.rest import (
    PROCESSOR_FILES,
    build_whole,
    measure_left_out,
    read_left_out,
    take_names,
)
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel

_UNTIED = "lm_head.weight"


def measure_model(loaded: LoadedModel) -> int:
    """Bytes of its weights, tied ones once; of a multimodal model with what it was opened without."""
    own = {parameter.data_ptr(): parameter for parameter in loaded.model.parameters()}
    size: int = sum(parameter.numel() * parameter.element_size() for parameter in own.values())
    return size + measure_left_out(loaded.path, loaded.model)


def check_savable(loaded: LoadedModel) -> None:
    """Raise HeadlampError for a model whose weights are not in memory as they would be saved."""
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, so no changed copy can be made of them; "
            "open it in memory"
        )
    if getattr(loaded.model, "hf_quantizer", None) is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} are quantised, and no change is exact in them; open the "
            "original model, in bfloat16 or float32"
        )


def save_smaller(loaded: LoadedModel, model: PreTrainedModel, folder: Path) -> None:
    """Save a model made of this one, with its tokenizer, in a folder."""
    model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)


def save_folder(loaded: LoadedModel, changed: Mapping[str, Tensor], folder: Path) -> bool:
    """Save the model with these parameters in place of its own, and its tokenizer, in a folder. A multimodal
    model is saved whole, with what it was opened without as its files have it.

    A head tied to the embedding is untied if one of its rows changes, so the input embedding stays. Returns
    whether it was. What was written stays where writing fails.
    """
    changed, model, rest = dict(changed), loaded.model, {}
    left = find_left_out(loaded.model)
    if left is not None:
        model = build_whole(copy.deepcopy(model.config), left, model.dtype)
        rest = read_left_out(loaded.path, model, left)
        take_names(model, loaded.model)
        model.generation_config = loaded.model.generation_config
    with loaded.lock, torch.no_grad():
        state = dict(loaded.model.state_dict()) | rest
        rows = changed.pop(loaded.anatomy.head.parameter, None)
        state |= changed
        configs = _list_tying(model.config)
        tied = [config.tie_word_embeddings for config in configs]
        try:
            if rows is not None:
                state[_name_output(loaded)] = rows
                for config in configs:
                    config.tie_word_embeddings = False
            model.save_pretrained(folder, state_dict=state)
        finally:
            for config, value in zip(configs, tied, strict=True):
                config.tie_word_embeddings = value
    loaded.tokenizer.save_pretrained(folder)
    if left is not None:
        _copy_processor(loaded.path, folder)
    return any(tied) and rows is not None


def _list_tying(config: Any) -> list[Any]:
    """The configuration, and that of the text model within it, those that say whether the head is tied."""
    found = {id(one): one for one in (config, config.get_text_config())}
    return [one for one in found.values() if hasattr(one, "tie_word_embeddings")]


def _copy_processor(source: Path, folder: Path) -> None:
    for name in PROCESSOR_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _name_output(loaded: LoadedModel) -> str:
    """The name of the head's weight once it is untied from the embedding."""
    output = loaded.model.get_output_embeddings()
    names = [name for name, module in loaded.model.named_modules() if module is output]
    return f"{names[0]}.weight" if names else _UNTIED
