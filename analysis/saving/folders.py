"""A model with changed parameters as a folder that transformers opens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import HeadlampError
from analysis.opening.models import LoadedModel

_UNTIED = "lm_head.weight"


def measure_model(loaded: LoadedModel) -> int:
    """Bytes of its weights, tied ones once."""
    own = {parameter.data_ptr(): parameter for parameter in loaded.model.parameters()}
    return sum(parameter.numel() * parameter.element_size() for parameter in own.values())


def check_savable(loaded: LoadedModel) -> None:
    """Raise HeadlampError for a model whose weights are not in memory as they would be saved."""
    if loaded.streamed is not None:
        raise HeadlampError(
            f"the weights of {loaded.ref.name} stay on disk, so no changed copy can be made of them; "
            "open it in memory"
        )
    if find_left_out(loaded.model) is not None:
        raise HeadlampError(
            f"{loaded.ref.name} is a multimodal model of which the text model alone is open, so a saved copy "
            "would lack the rest of it; use the recipe instead"
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
    """Save the model with these parameters in place of its own, and its tokenizer, in a folder.

    A head tied to the embedding is untied if one of its rows changes, so the input embedding stays. Returns
    whether it was. What was written stays where writing fails.
    """
    changed = dict(changed)
    with loaded.lock, torch.no_grad():
        state = dict(loaded.model.state_dict())
        rows = changed.pop(loaded.anatomy.head.parameter, None)
        state |= changed
        config = loaded.model.config
        tied = config.tie_word_embeddings
        try:
            if rows is not None:
                state[_name_output(loaded)] = rows
                config.tie_word_embeddings = False
            loaded.model.save_pretrained(folder, state_dict=state)
        finally:
            config.tie_word_embeddings = tied
    loaded.tokenizer.save_pretrained(folder)
    return bool(tied) and rows is not None


def _name_output(loaded: LoadedModel) -> str:
    """The name of the head's weight once it is untied from the embedding."""
    output = loaded.model.get_output_embeddings()
    names = [name for name, module in loaded.model.named_modules() if module is output]
    return f"{names[0]}.weight" if names else _UNTIED
