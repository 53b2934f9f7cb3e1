"""A checkpoint that is read tensor by tensor, each into its place, holds what transformers itself loads."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from analysis.checkpoints.loading import read_weights
from analysis.checkpoints.wrappers.text_part import find_left_out, find_wrapper
from analysis.errors import ModelError
from analysis.opening.models import LoadedModel
from tests.contract.expectations import Broken, expect


def check_loading(loaded: LoadedModel) -> None:
    """The model saved in its family's own layout and opened again, as it is stored and in another dtype; of a
    multimodal one what is opened is the text model.
    """
    config = loaded.model.config
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING and find_wrapper(config) is None:
        return  # a part of a larger model, of which no checkpoint is opened
    with TemporaryDirectory() as temporary:
        loaded.model.save_pretrained(temporary)
        for dtype in (torch.float32, torch.bfloat16):
            theirs = type(loaded.model).from_pretrained(temporary, dtype=dtype)
            try:
                ours = read_weights("saved", Path(temporary), theirs.config, "cpu", dtype)
            except ModelError as error:
                raise Broken(f"what was saved is not loaded: {error}") from error
            expect_same_tensors(ours, theirs)


def expect_same_tensors(ours: PreTrainedModel, theirs: PreTrainedModel) -> None:
    """Raise Broken unless two models have the same parameters and buffers, to the bit, but for what ours
    leaves out.
    """
    expect(isinstance(ours, type(theirs)), f"a {type(ours).__name__} was made of a {type(theirs).__name__}")
    left = find_left_out(ours)
    gone = () if left is None else tuple(f"{part}." for part in left.parts)
    mine, wanted = (
        {name: tensor for name, tensor in _tensors(model).items() if not f"{name}.".startswith(gone)}
        for model in (ours, theirs)
    )
    expect(set(mine) == set(wanted), f"other tensors: {sorted(set(mine) ^ set(wanted))[:3]}")
    for name, tensor in wanted.items():
        same = mine[name].dtype == tensor.dtype and torch.equal(mine[name], tensor)
        expect(same, f"{name} is not what transformers loads")


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
