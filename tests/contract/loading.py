"""A checkpoint that is read tensor by tensor, each into its place, holds what transformers itself loads."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel

from analysis.checkpoints.loading import read_weights
from analysis.errors import ModelError
from analysis.opening.models import LoadedModel
from tests.contract.expectations import Broken, expect


def check_loading(loaded: LoadedModel) -> None:
    """The model saved in its family's own layout and opened again, as it is stored and in another dtype."""
    if type(loaded.model.config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
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
    """Raise Broken unless two models have the same parameters and buffers, to the bit."""
    expect(type(ours) is type(theirs), f"a {type(ours).__name__} was made of a {type(theirs).__name__}")
    mine, wanted = (_tensors(model) for model in (ours, theirs))
    expect(set(mine) == set(wanted), f"other tensors: {sorted(set(mine) ^ set(wanted))[:3]}")
    for name, tensor in wanted.items():
        same = mine[name].dtype == tensor.dtype and torch.equal(mine[name], tensor)
        expect(same, f"{name} is not what transformers loads")


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers())
