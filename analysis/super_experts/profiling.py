"""Profiling of one batch of a text: largest block outputs and massive residual activations in one forward
pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature

import numpy as np
import torch

from analysis.errors import ExpertError
from analysis.intervening.interventions import intervene
from analysis.intervening.pruning import check_readable
from analysis.opening.models import LoadedModel
from analysis.running.perplexity import suggest_dtype
from analysis.running.prompts import decode_tokens
from analysis.super_experts.block_peaks import WatchOutputs
from analysis.super_experts.forming import WatchForming
from analysis.super_experts.profile import BatchProfile
from analysis.super_experts.residual_layers import residual_layers
from analysis.super_experts.residuals import KINDS, WatchResiduals

METHOD_VERSION = "2"
"""2: which blocks form massive activations; the first routed token is the released code's."""


def profile_batch(loaded: LoadedModel, windows: Sequence[Sequence[int]]) -> BatchProfile:
    """One forward pass over windows of equal length, each a sequence of token ids.

    Raises ExpertError where a block or a residual is NaN or infinite, naming layer and token, and if
    experts cannot be read.
    """
    check_readable(loaded)
    _refuse_time_first(loaded)
    layers = residual_layers(loaded)
    blocks = loaded.anatomy.blocks
    outputs, forming = WatchOutputs(blocks), WatchForming(layers, blocks)
    residuals = WatchResiduals(layers, forming.note)
    fed = torch.tensor([list(ids) for ids in windows], device=loaded.device)
    positions = torch.arange(fed.shape[1], device=loaded.device).expand(len(fed), -1)
    few = {"logits_to_keep": 1} if "logits_to_keep" in signature(loaded.model.forward).parameters else {}
    with intervene(loaded, [outputs, forming, residuals], positions=positions), torch.inference_mode():
        loaded.model(input_ids=fed, use_cache=False, **few)
    found = BatchProfile(outputs.peaks(), residuals.peaks, forming.forming, fed.cpu().numpy())
    _refuse_infinite(loaded, found)
    return found


def _refuse_time_first(loaded: LoadedModel) -> None:
    if any(block.time_first for block in loaded.anatomy.blocks):
        raise ExpertError(
            f"{loaded.anatomy.architecture} stores states as (tokens, batch), so experts cannot be profiled "
            "on a text; its neurons can be decoded and searched"
        )


def _refuse_infinite(loaded: LoadedModel, found: BatchProfile) -> None:
    """Refuse NaN and infinity, which a maximum would hide; names the first."""
    wrong = [
        (block.address.layer, f"block {block.address} writes", int(token))
        for block, largest, token in zip(
            loaded.anatomy.blocks, found.blocks.largest, found.blocks.token, strict=True
        )
        if not np.isfinite(largest)
    ]
    for at, layer in enumerate(residual_layers(loaded)):
        for kind in range(len(KINDS)):
            if not np.isfinite(found.residuals.largest[kind, at]):
                where = f"the residual after layer {layer.number} is"
                wrong.append((layer.number, where, int(found.residuals.token[kind, at])))
    if wrong:
        _, what, token = min(wrong, key=lambda place: place[0])
        position = token % found.ids.shape[1]
        text = decode_tokens(loaded, [found.ids.reshape(-1)[token]])[0]
        raise ExpertError(
            f"{what} NaN or infinity at token {text!r} (position {position}) in {loaded.dtype}, so no "
            f"maximum from there on is valid; {suggest_dtype(loaded)}"
        )
