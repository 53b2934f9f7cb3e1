"""Baking: changes written into weights, where that is exact. The model in memory is not changed.

Exact are pruned neurons and experts, replaced vectors, and clamps that ablate or scale a key at every
position. What a neuron writes is multiplied, so the order of these changes makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.errors import HeadlampError
from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import Change
from analysis.intervening.pruning import PruneExpert, check_prunable
from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars, place_of
from analysis.unlearning.edits.selective_prune import SelectivePrune


def why_not_baked(changes: Sequence[Change]) -> str:
    """Why weights cannot hold these changes, naming the first that they cannot; empty if they can."""
    for item in changes:
        if isinstance(item, SelectivePrune | Tars | PruneExpert):
            continue
        if not isinstance(item, Clamp):
            return (
                f"{type(item).__name__} depends on the input, so no weight equals it; "
                "export the recipe, or the Python snippet"
            )
        if item.mode not in ("ablate", "scale") or item.site != "key" or item.scope.kind != "all":
            return f"{item} is not an ablation or scaling of a key at every position, so no weight equals it"
    edits = [edit for item in changes if isinstance(item, Tars) for edit in item.edits]
    places = Counter((edit.address, edit.site) for edit in edits if edit.site != "head")
    for (address, site), count in places.items():
        if count > 1:
            return f"{address}:{site} is replaced {count} times, so no one weight equals it; keep one of them"
    return ""


def bake_weights(loaded: LoadedModel, changes: Sequence[Change]) -> dict[str, Tensor]:
    """The changed parameters, whole and by name, in the model's dtype.

    Raises HeadlampError if that would not be exact, AddressOutOfRange and ExpertError for what this model
    does not have or cannot lose.
    """
    reason = why_not_baked(changes)
    if reason:
        raise HeadlampError(reason)
    check_prunable(loaded, [item.address for item in changes if isinstance(item, PruneExpert)])
    changed: dict[str, Tensor] = {}

    def parameter(name: str) -> Tensor:
        return changed.setdefault(name, loaded.parameters[name].detach().clone())

    with torch.no_grad():
        for item in changes:
            for edit in item.edits if isinstance(item, Tars) else ():
                name, place = _place_of_edit(loaded, edit)
                weight = parameter(name)
                weight[place] = edit.value.to(weight.device, weight.dtype)
        for address, factor in _list_factors(changes):
            name, place = place_of(loaded.anatomy.block(address).down, address.neuron)
            weight = parameter(name)
            weight[place] = weight[place] * factor if factor else 0.0
        for item in changes:
            if isinstance(item, PruneExpert):
                for name, where in _list_written(loaded, item.address):
                    parameter(name)[where] = 0.0
    return changed


def _place_of_edit(loaded: LoadedModel, edit: Reversal) -> tuple[str, tuple[int | slice, ...]]:
    if isinstance(edit.address, HeadRow):
        return loaded.anatomy.head.parameter, (edit.address.token,)
    assert edit.site != "head"
    return place_of(loaded.anatomy.block(edit.address).view(edit.site), edit.address.neuron)


def _list_factors(changes: Sequence[Change]) -> Iterator[tuple[NeuronAddress, float]]:
    """Each neuron whose key is scaled or silenced, and by what."""
    for item in changes:
        if isinstance(item, Clamp):
            assert item.raw is not None
            yield item.address, 0.0 if item.mode == "ablate" else item.raw
        elif isinstance(item, SelectivePrune):
            for block, neurons in item.blocks:
                yield from ((NeuronAddress(block, neuron), 0.0) for neuron in neurons.tolist())


def _list_written(
    loaded: LoadedModel, address: BlockAddress
) -> Iterator[tuple[str, tuple[int | slice, ...]]]:
    """The parameters, and where in them, through which a block writes: what it adds is 0 once they are."""
    down = loaded.anatomy.blocks[loaded.anatomy.index(address)].down
    expert: tuple[int | slice, ...] = () if down.expert is None else (down.expert,)
    columns: tuple[int | slice, ...] = (down.neurons, slice(None))
    yield down.parameter, (*expert, *(columns if down.neuron_axis == 0 else columns[::-1]))
    if down.bias is not None:
        yield down.bias, expert or (slice(None),)
