"""Baking: interventions written into weights where that is exact (pruned neurons, reversed vectors, and
clamps that ablate or scale a key at every position). The model in memory is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from analysis.anatomy.addresses import NeuronAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert
from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.reversals import HeadRow, Tars, place_of
from analysis.unlearning.edits.selective_prune import SelectivePrune

_UNTIED = "lm_head.weight"


def why_not_baked(interventions: Sequence[Change]) -> str:
    """Why weights cannot hold these changes; empty if they can."""
    for item in interventions:
        if isinstance(item, SelectivePrune | Tars):
            continue
        if isinstance(item, Clamp):
            if item.mode in ("ablate", "scale") and item.site == "key" and item.scope.kind == "all":
                continue
            return f"{item} is not an ablation or scaling of a key at every position, so no weight equals it"
        if isinstance(item, PruneExpert):
            return f"{item.address} is pruned at its router's weight; export the recipe instead"
        return (
            f"{type(item).__name__} depends on the input, so no weight equals it; "
            "export the recipe, or the Python snippet"
        )
    return ""


def bake_weights(loaded: LoadedModel, interventions: Sequence[Change]) -> dict[str, Tensor]:
    """The changed parameters, whole and by name. Raises HeadlampError if that would not be exact."""
    reason = why_not_baked(interventions)
    if reason:
        raise HeadlampError(reason)
    changed: dict[str, Tensor] = {}

    def parameter(name: str) -> Tensor:
        return changed.setdefault(name, loaded.parameters[name].detach().clone())

    def down(address: NeuronAddress, factor: float) -> None:
        name, place = place_of(loaded.anatomy.block(address).down, address.neuron)
        parameter(name)[place] *= factor

    for item in interventions:
        if isinstance(item, Clamp):
            assert item.raw is not None
            down(item.address, 0.0 if item.mode == "ablate" else item.raw)
        elif isinstance(item, SelectivePrune):
            for block, neurons in item.blocks:
                for neuron in neurons.tolist():
                    down(NeuronAddress(block, neuron), 0.0)
        elif isinstance(item, Tars):
            for edit in item.edits:
                if isinstance(edit.address, HeadRow):
                    name, index = loaded.anatomy.head.parameter, (edit.address.token,)
                else:
                    block_of = loaded.anatomy.block(edit.address)
                    assert edit.site != "head"
                    name, index = place_of(block_of.view(edit.site), edit.address.neuron)  # type: ignore[assignment]
                weight = parameter(name)
                weight[index] = edit.value.to(weight.device, weight.dtype)
    return changed


def save_baked(loaded: LoadedModel, interventions: Sequence[Change], folder: Path) -> None:
    """Save the whole model with the changes in its weights, and its tokenizer, to a new folder.

    A head tied to the embedding is untied if one of its rows changes, so the input embedding stays.
    """
    if folder.exists() and any(folder.iterdir()):
        raise HeadlampError(f"{folder} is not empty; name a new folder")
    changed = bake_weights(loaded, interventions)
    with loaded.lock, torch.no_grad():
        state = dict(loaded.model.state_dict())
        head = loaded.anatomy.head
        rows = changed.pop(head.parameter, None)
        state |= changed
        config = loaded.model.config
        tied = config.tie_word_embeddings
        try:
            if rows is not None:
                state[_output_name(loaded)] = rows
                config.tie_word_embeddings = False
            loaded.model.save_pretrained(folder, state_dict=state)
        finally:
            config.tie_word_embeddings = tied
    loaded.tokenizer.save_pretrained(folder)


def _output_name(loaded: LoadedModel) -> str:
    """The name of the head's weight once it is untied from the embedding."""
    output = loaded.model.get_output_embeddings()
    names = [name for name, module in loaded.model.named_modules() if module is output]
    return f"{names[0]}.weight" if names else _UNTIED
