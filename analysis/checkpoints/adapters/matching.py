"""Which parameter each tensor of an adapter changes, and how; a tensor that fits none is refused by name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from analysis.checkpoints.adapters.edits import Added, Edit, LowRank, Replaced, RowsReplaced
from analysis.checkpoints.adapters.files import CONFIG, EMBEDDING, Adapter
from analysis.checkpoints.adapters.gaps import refuse_gaps
from analysis.checkpoints.adapters.places import AdapterPlaces, Place
from analysis.checkpoints.stored import StoredTensor
from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import NotAModel

Edits = Mapping[str, tuple[Edit, ...]]
"""Parameter name → what is done to it, in order."""

_PREFIX = "base_model.model."
_LOW_RANK = re.compile(
    r"(?P<module>.+?)(?P<depth>(\.base_layer)*)"
    r"\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(?P<leaf>\.weight|\.bias|)"
)
_TOKENS = ".token_adapter.trainable_tokens_delta"


@dataclass
class _Group:
    """The tensors of one low-rank change. depth: how many changes of the same module lie within it."""

    module: str
    depth: int
    parts: dict[str, StoredTensor] = field(default_factory=dict)


def match_adapter(model: PreTrainedModel, adapter: Adapter) -> Edits:
    """What an adapter does to each parameter of a model, which may be without weights. What it does to parts
    of a multimodal model that this one was built without is left out.

    Raises NotAModel for an adapter that changes what the model does not have, or not in this shape, or that
    lacks a layer of what it changes.
    """
    places, groups = AdapterPlaces(model, adapter), dict[tuple[str, int], _Group]()
    edits: defaultdict[str, list[Edit]] = defaultdict(list)
    for name, tensor in _list_read(model, places, adapter):
        low_rank = _LOW_RANK.fullmatch(name)
        if low_rank is None:
            parameter, edit = _read_whole(places, adapter, name, tensor)
            edits[parameter].append(edit)
            continue
        module, depth = low_rank["module"], low_rank["depth"].count(".base_layer")
        group = groups.setdefault((module, depth), _Group(module, depth))
        group.parts[low_rank["part"] + low_rank["leaf"].replace(".weight", "")] = tensor
    for group in groups.values():
        for parameter, edit in _read_low_rank(places, adapter, group):
            edits[parameter].append(edit)
    if not edits:
        raise NotAModel(f"{adapter.name} changes nothing of this model; give the one it was made for")
    refuse_gaps(adapter, places.parameters, edits)
    return {name: tuple(done) for name, done in edits.items()}


def _list_read(
    model: PreTrainedModel, places: AdapterPlaces, adapter: Adapter
) -> Iterator[tuple[str, StoredTensor]]:
    """The adapter's tensors without those of parts that are left out."""
    left = find_left_out(model)
    keys = adapter.tensors.keys()
    gone = set() if left is None else left.list_keys(map(_name_changed, keys), places.parameters)
    return ((k.removeprefix(_PREFIX), adapter.tensors[k]) for k in keys if _name_changed(k) not in gone)


def _name_changed(key: str) -> str:
    """The parameter that a tensor of an adapter changes, by the name of its module."""
    name = key.removeprefix(_PREFIX)
    low_rank = _LOW_RANK.fullmatch(name)
    return name.replace(".base_layer.", ".") if low_rank is None else f"{low_rank['module']}.weight"


def _read_whole(places: AdapterPlaces, adapter: Adapter, name: str, tensor: StoredTensor) -> tuple[str, Edit]:
    """A parameter that is replaced, or rows of it."""
    if not name.endswith(_TOKENS):
        parameter = places.find(name.replace(".base_layer.", "."))
        places.require(name, tensor.shape, tuple(places.parameters[parameter].shape))
        return parameter, Replaced(tensor)
    module = name.removesuffix(_TOKENS)
    parameter, rows = places.find(f"{module}.weight"), _find_tokens(adapter, module)
    count, *width = places.parameters[parameter].shape
    places.require(name, tensor.shape, (len(rows), *width))
    if not all(0 <= row < count for row in rows):
        raise NotAModel(
            f"{adapter.name} changes tokens {min(rows)} to {max(rows)}, and this model has {count}; give the "
            "model it was made for"
        )
    return parameter, RowsReplaced(rows, tensor)


def _find_tokens(adapter: Adapter, module: str) -> tuple[int, ...]:
    for named, ids in adapter.settings.tokens.items():
        if ids and (named == EMBEDDING or module == named or module.endswith(f".{named}")):
            return ids
    raise NotAModel(f"{adapter.name}: its {CONFIG} does not say which tokens of {module} it changes")


def _read_low_rank(places: AdapterPlaces, adapter: Adapter, group: _Group) -> Iterator[tuple[str, Edit]]:
    """The change of a weight, and of its bias, by one pair of matrices."""
    module, parts = group.module, group.parts
    embedding = "lora_embedding_A" in parts
    down = parts.pop("lora_embedding_A" if embedding else "lora_A", None)
    up = parts.pop("lora_embedding_B" if embedding else "lora_B", None)
    magnitude, bias = parts.pop("lora_magnitude_vector", None), parts.pop("lora_B.bias", None)
    if down is None or up is None or parts or len(down.shape) != 2 or len(up.shape) != 2:
        raise NotAModel(
            f"{adapter.name}: the matrices for {module} are not a pair lora_A, lora_B of a LoRA adapter; "
            "save it again with peft"
        )
    outputs, rank = up.shape
    place = places.locate(module, group.depth, outputs, embedding=embedding)
    _check_rank(adapter, module, place, down, rank)
    places.require(module, (outputs, down.shape[1]), places.read_shape(place))
    for vector in (magnitude, bias):
        if vector is not None:
            places.require(module, vector.shape, (outputs,))
    scale = adapter.settings.scale_of(place.own)
    change = LowRank(down, up, scale, place.transposed, place.experts, place.within, magnitude)
    yield place.name, change
    if bias is not None:
        parameter = places.find(f"{module}.bias")
        places.require(module, bias.shape, tuple(places.parameters[parameter].shape))
        yield parameter, Added(bias, scale)


def _check_rank(adapter: Adapter, module: str, place: Place, down: StoredTensor, rank: int) -> None:
    stated = adapter.settings.rank_of(place.own)
    if not stated * place.experts == down.shape[0] == rank:
        raise NotAModel(
            f"{adapter.name}: its {CONFIG} gives {module} the rank {stated}, its weights have "
            f"{down.shape[0] // place.experts}; use the {CONFIG} that belongs to these weights"
        )
