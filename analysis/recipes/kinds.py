"""Recipe entries with tensors, written and read: guards, Neuron Adjust, pruning, TARS.

An entry names its tensors, which are in the safetensors file beside the recipe (`files.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from analysis.anatomy.addresses import BlockAddress, NeuronAddress
from analysis.errors import HeadlampError, RecipeError
from analysis.intervening.steps import AttachableChange
from analysis.unlearning.edits.neuron_adjust import AdjustedBlock, NeuronAdjust
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars
from analysis.unlearning.edits.selective_prune import SelectivePrune
from analysis.unlearning.guards.key_boxes import KeyBox
from analysis.unlearning.guards.key_gaussians import KeyGaussian
from analysis.unlearning.guards.key_guards import KeyGuard, KeySet, Rival
from analysis.unlearning.guards.linear_guards import LinearGuard

Entry = dict[str, Any]
Tensors = dict[str, Tensor]
SITES = ("up", "gate", "down", "head")
"""Numbering of vector places in a tars recipe."""

_BOX = ("mean", "sigma", "own_k")
_GAUSSIAN = ("mean", "sigma")
_GAUSSIANS = ("forget_mean", "forget_sigma", "retain_mean", "retain_sigma")


def write_entry(item: AttachableChange, number: int) -> tuple[Entry, Tensors]:
    """The entry of a recipe's `number`-th intervention, and its tensors by name."""
    write: Callable[[Any], tuple[Entry, Tensors]] = _WRITERS[type(item)]
    entry, tensors = write(item)
    named = {f"{number}.{name}": tensor.contiguous() for name, tensor in tensors.items()}
    return entry | {"tensors": {name: f"{number}.{name}" for name in tensors}}, named


def read_intervention(
    number: int, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> AttachableChange:
    """The intervention of an entry of a kind in READERS. Raises RecipeError if it is damaged."""
    kind = entry["kind"]
    try:
        own = {name: tensors[stored] for name, stored in entry["tensors"].items()}
        return READERS[kind](entry, own)
    except HeadlampError as error:
        raise RecipeError(f"intervention {number}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise RecipeError(
            f"intervention {number} ({kind}) cannot be read: {type(error).__name__} {error}; "
            "the recipe, or the tensors beside it, are damaged"
        ) from error


def _write_guard(guard: KeyGuard) -> tuple[Entry, Tensors]:
    """The first box as in METHODS; further layers' under `also`, retain skills' under `rivals`.

    measure and key are left out where they are the paper's, as in recipes of earlier versions.
    """
    first, *also = _box_entries(guard.boxes)
    entry = {
        "kind": "key_space_guard",
        **first,
        "alpha": guard.alpha,
        "check": guard.check_at,
        "refusal": guard.refusal,
        "as_released": guard.as_released,
        "also": also,
        "margin": guard.margin,
        "rivals": [{"skill": rival.skill, "boxes": _box_entries(rival.boxes)} for rival in guard.rivals],
    }
    if guard.measure != "box":
        entry["measure"] = guard.measure
    if guard.key != "last":
        entry["key"] = guard.key
    tensors = _box_tensors("", guard.boxes)
    for number, rival in enumerate(guard.rivals):
        tensors |= _box_tensors(f"rival{number}.", rival.boxes)
    return entry, tensors


def _box_entries(boxes: Iterable[KeySet]) -> list[Entry]:
    return [
        {"layer": box.layer} | ({"k": box.k} if isinstance(box, KeyBox) else {}) | {"n": box.n}
        for box in boxes
    ]


def _box_tensors(prefix: str, boxes: Iterable[KeySet]) -> Tensors:
    return {
        f"{prefix}{name}.{i}" if i else f"{prefix}{name}": getattr(box, name)
        for i, box in enumerate(boxes)
        for name in (_BOX if isinstance(box, KeyBox) else _GAUSSIAN)
    }


def _read_guard(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> KeyGuard:
    measure = entry.get("measure", "box")
    if measure not in ("box", "gauss"):
        raise RecipeError(f"measure {str(measure)[:40]!r} is unknown; a guard here is of box or gauss")
    read = _read_boxes if measure == "box" else _read_gaussians
    rivals = tuple(
        Rival(str(rival["skill"]), read(rival["boxes"], f"rival{number}.", tensors))
        for number, rival in enumerate(entry.get("rivals", ()))
    )
    return KeyGuard(
        read((entry, *entry.get("also", ())), "", tensors),
        float(entry["alpha"]),
        entry["check"],
        str(entry["refusal"]),
        bool(entry["as_released"]),
        rivals,
        float(entry.get("margin", 1.0)),
        entry.get("key", "last"),
    )


def _read_boxes(
    facts: Iterable[Mapping[str, Any]], prefix: str, tensors: Mapping[str, Tensor]
) -> tuple[KeyBox, ...]:
    boxes = []
    for i, box in enumerate(facts):
        mean, sigma, own_k = (
            tensors[f"{prefix}{name}.{i}" if i else f"{prefix}{name}"].float() for name in _BOX
        )
        boxes.append(KeyBox(int(box["layer"]), mean, sigma, float(box["k"]), int(box["n"]), own_k))
    return tuple(boxes)


def _read_gaussians(
    facts: Iterable[Mapping[str, Any]], prefix: str, tensors: Mapping[str, Tensor]
) -> tuple[KeyGaussian, ...]:
    found = []
    for i, one in enumerate(facts):
        mean, sigma = (
            tensors[f"{prefix}{name}.{i}" if i else f"{prefix}{name}"].float() for name in _GAUSSIAN
        )
        found.append(KeyGaussian(int(one["layer"]), mean, sigma, int(one["n"])))
    return tuple(found)


def _write_linear(guard: LinearGuard) -> tuple[Entry, Tensors]:
    entry = {
        "kind": "linear_guard",
        "layers": list(guard.layers),
        "key": guard.key,
        "bias": guard.bias,
        "threshold": guard.threshold,
        "n": guard.n,
        "against": list(guard.against),
        "refusal": guard.refusal,
    }
    return entry, {"weights": guard.weights}


def _read_linear(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> LinearGuard:
    return LinearGuard(
        tuple(int(layer) for layer in entry["layers"]),
        tensors["weights"].float(),
        float(entry["bias"]),
        float(entry["threshold"]),
        int(entry["n"]),
        entry["key"],
        tuple(str(name) for name in entry["against"]),
        str(entry["refusal"]),
    )


def _write_adjust(item: NeuronAdjust) -> tuple[Entry, Tensors]:
    entry = {"kind": "neuron_adjust", "q": item.q, "seed": item.seed, "as_released": item.as_released}
    tensors = _places((block.address, block.neurons) for block in item.blocks)
    for name in _GAUSSIANS:
        tensors[name] = torch.cat([getattr(block, name) for block in item.blocks])
    return entry, tensors


def _read_adjust(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> NeuronAdjust:
    blocks = [
        AdjustedBlock(address, tensors["neuron"][own], *(tensors[name][own].float() for name in _GAUSSIANS))
        for address, own in _group_by_block(tensors)
    ]
    return NeuronAdjust(tuple(blocks), float(entry["q"]), int(entry["seed"]), bool(entry["as_released"]))


def _write_prune(item: SelectivePrune) -> tuple[Entry, Tensors]:
    return {"kind": "selective_prune", "q": item.q}, _places(item.blocks)


def _read_prune(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SelectivePrune:
    blocks = tuple((address, tensors["neuron"][own]) for address, own in _group_by_block(tensors))
    return SelectivePrune(blocks, float(entry["q"]))


def _write_tars(item: Tars) -> tuple[Entry, Tensors]:
    rows = []
    for edit in item.edits:
        where = edit.address
        block = None if isinstance(where, HeadRow) else where.block
        number = where.token if isinstance(where, HeadRow) else where.neuron
        rows.append([*_block_row(block), number, SITES.index(edit.site)])
    return {"kind": "tars"}, {
        "place": torch.tensor(rows),
        "cosine": torch.tensor([edit.cosine for edit in item.edits]),
        "value": torch.stack([edit.value for edit in item.edits]),
    }


def _read_tars(entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tars:
    edits = []
    for row, cosine, value in zip(
        tensors["place"].tolist(), tensors["cosine"], tensors["value"], strict=True
    ):
        *block, number, site = row
        place = HeadRow(number) if SITES[site] == "head" else NeuronAddress(_address(*block), number)
        edits.append(Reversal(place, SITES[site], float(cosine), value.float()))  # type: ignore[arg-type]
    return Tars(tuple(edits))


def _places(blocks: Iterable[tuple[BlockAddress, Tensor]]) -> Tensors:
    """layer, expert (−1: dense), shared and neuron (k,) of every neuron."""
    rows = [[*_block_row(address), int(n)] for address, neurons in blocks for n in neurons]
    columns = torch.tensor(rows, dtype=torch.int64).reshape(-1, 4).T
    return dict(zip(("layer", "expert", "shared", "neuron"), columns, strict=True))


def _block_row(block: BlockAddress | None) -> list[int]:
    if block is None:
        return [-1, -1, 0]
    return [block.layer, -1 if block.expert is None else block.expert, int(block.shared)]


def _address(layer: int, expert: int, shared: int) -> BlockAddress:
    return BlockAddress(layer, bool(shared), None if expert < 0 else expert)


def _group_by_block(tensors: Mapping[str, Tensor]) -> list[tuple[BlockAddress, Tensor]]:
    """Each block with the tensor rows that belong to it."""
    rows = torch.stack([tensors[name] for name in ("layer", "expert", "shared")], 1)
    found: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows.tolist()):
        found.setdefault(tuple(row), []).append(index)
    return [(_address(*row), torch.tensor(own)) for row, own in found.items()]


_WRITERS: Mapping[type, Callable[[Any], tuple[Entry, Tensors]]] = {
    KeyGuard: _write_guard,
    LinearGuard: _write_linear,
    NeuronAdjust: _write_adjust,
    SelectivePrune: _write_prune,
    Tars: _write_tars,
}
READERS: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Tensor]], AttachableChange]] = {
    "key_space_guard": _read_guard,
    "linear_guard": _read_linear,
    "neuron_adjust": _read_adjust,
    "selective_prune": _read_prune,
    "tars": _read_tars,
}
