"""Which parameter each tensor of an adapter changes, and how; a tensor that fits none is refused by name."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    rename_source_key,
)
from transformers.pytorch_utils import Conv1D

from analysis.checkpoints.adapters.edits import Added, Edit, LowRank, Replaced, RowsReplaced
from analysis.checkpoints.adapters.files import CONFIG, EMBEDDING, Adapter
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
_JOINS = ((MergeModulelist,), (Concatenate,), (MergeModulelist, Concatenate))


@dataclass
class _Group:
    """The tensors of one low-rank change. depth: how many changes of the same module lie within it."""

    module: str
    depth: int
    parts: dict[str, StoredTensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """A parameter of the model, or a part of it. own: the module's name by which the settings know it."""

    name: str
    own: str
    within: tuple[int | slice, ...] = ()
    experts: int = 1
    transposed: bool = False


def match_adapter(model: PreTrainedModel, adapter: Adapter) -> Edits:
    """What an adapter does to each parameter of a model, which may be without weights.

    Raises NotAModel for an adapter that changes what the model does not have, or not in this shape.
    """
    return _Matching(model, adapter).edits()


class _Matching:
    def __init__(self, model: PreTrainedModel, adapter: Adapter) -> None:
        self.model, self.adapter, self.settings = model, adapter, adapter.settings
        self.own: dict[str, Any] = dict(model.named_parameters(remove_duplicate=False))
        mapping = get_model_conversion_mapping(model)
        self.renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
        self.converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]

    def edits(self) -> Edits:
        whole: defaultdict[str, list[Edit]] = defaultdict(list)
        groups: dict[tuple[str, int], _Group] = {}
        left = find_left_out(self.model)
        unread = set() if left is None else left.list_keys(map(_name_changed, self.adapter.tensors), self.own)
        for key, tensor in self.adapter.tensors.items():
            name = key.removeprefix(_PREFIX)
            if _name_changed(key) in unread:
                continue
            low_rank = _LOW_RANK.fullmatch(name)
            if low_rank is not None:
                depth = low_rank["depth"].count(".base_layer")
                group = groups.setdefault((low_rank["module"], depth), _Group(low_rank["module"], depth))
                group.parts[low_rank["part"] + low_rank["leaf"].replace(".weight", "")] = tensor
            else:
                parameter, edit = self._read_whole(name, tensor)
                whole[parameter].append(edit)
        for group in groups.values():
            for parameter, edit in self._read_low_rank(group):
                whole[parameter].append(edit)
        if not whole:
            raise NotAModel(f"{self.adapter.name} holds no tensors, so it changes nothing; save it again")
        return {name: tuple(edits) for name, edits in whole.items()}

    def _read_whole(self, name: str, tensor: StoredTensor) -> tuple[str, Edit]:
        """A parameter that is replaced, or rows of it."""
        if name.endswith(_TOKENS):
            module = name.removesuffix(_TOKENS)
            parameter = self._find(f"{module}.weight")[0]
            rows = self._find_tokens(module)
            self._require(name, tensor.shape, (len(rows), *self.own[parameter].shape[1:]))
            return parameter, RowsReplaced(rows, tensor)
        parameter = self._find(name.replace(".base_layer.", "."))[0]
        self._require(name, tensor.shape, tuple(self.own[parameter].shape))
        return parameter, Replaced(tensor)

    def _find_tokens(self, module: str) -> tuple[int, ...]:
        for named, ids in self.settings.tokens.items():
            if named == EMBEDDING or module == named or module.endswith(f".{named}"):
                return ids
        raise NotAModel(f"{self.adapter.name}: its {CONFIG} does not say which tokens of {module} it changes")

    def _read_low_rank(self, group: _Group) -> Iterator[tuple[str, Edit]]:
        """The change of a weight, and of its bias, by one pair of matrices."""
        parts = group.parts
        embedding = "lora_embedding_A" in parts
        down = parts.pop("lora_embedding_A" if embedding else "lora_A", None)
        up = parts.pop("lora_embedding_B" if embedding else "lora_B", None)
        magnitude, bias = parts.pop("lora_magnitude_vector", None), parts.pop("lora_B.bias", None)
        if down is None or up is None or parts or len(down.shape) != 2 or len(up.shape) != 2:
            raise NotAModel(
                f"{self.adapter.name}: the matrices for {group.module} are not a pair lora_A, lora_B of a "
                "LoRA adapter; save it again with peft"
            )
        place = self._locate(group, embedding, up)
        scale = self._scale(group.module, place, down)
        self._check_shapes(group.module, place, down, up)
        yield (
            place.name,
            LowRank(down, up, scale, place.transposed, place.experts, place.within, magnitude),
        )
        if bias is not None:
            yield self._find(f"{group.module}.bias")[0], Added(bias, scale)

    def _locate(self, group: _Group, embedding: bool, up: StoredTensor) -> _Place:
        direct = self._list_targets(group.module)
        if direct:
            if group.depth >= len(direct):
                self._refuse_missing(group.module)
            module, leaf = self.model.get_submodule(group.module), direct[-1 - group.depth]
            name = f"{group.module}.{leaf}"
            shape = self.own[name].shape
            if len(shape) < 3:
                return _Place(name, name)
            transposed = bool(getattr(module, "is_transposed", False))
            within = (0,) if shape[0] == 1 else ()
            return _Place(name, name, within, int(shape[0]), transposed)
        name, pattern, converter = self._find(f"{group.module}.weight")
        if converter is None:
            owner = self.model.get_submodule(name.rpartition(".")[0])
            return _Place(name, group.module, transposed=embedding or isinstance(owner, Conv1D))
        return _Place(name, group.module, self._find_part(group.module, pattern, converter, up))

    def _list_targets(self, module: str) -> list[str]:
        """The module's own parameters that the settings name, the one changed last at the end."""
        found = dict(self.model.named_modules()).get(module)
        if found is None or not self.settings.parameters:
            return []
        own = [name for name, _ in found.named_parameters(recurse=False)]
        return [
            name
            for name in own
            if any(f".{module}.{name}".endswith(f".{target}") for target in self.settings.parameters)
        ]

    def _find_part(
        self, module: str, pattern: str, converter: WeightConverter, up: StoredTensor
    ) -> tuple[int | slice, ...]:
        """Where in a joined parameter a weight lies that older versions of transformers kept by itself."""
        steps = tuple(type(step) for step in converter.operations)
        numbers = re.findall(r"\.experts\.(\d+)\.", f"{module}.")
        if steps not in _JOINS or (MergeModulelist in steps and len(numbers) != 1):
            raise NotAModel(
                f"{self.adapter.name} changes {module}, which this version of transformers keeps within "
                "another weight in a way that is not known here; merge it with the versions it was made with"
            )
        within: tuple[int | slice, ...] = (int(numbers[0]),) if MergeModulelist in steps else ()
        if Concatenate in steps:
            start = converter.source_patterns.index(pattern) * up.shape[0]
            within += (slice(start, start + up.shape[0]),)
        return within

    def _find(self, name: str) -> tuple[str, str, WeightConverter | None]:
        """The parameter with this name, by today's names or by those of checkpoints, and how it is joined."""
        if name in self.own:
            return name, "", None
        found, pattern = rename_source_key(
            name, self.renamings, self.converters, self.model.base_model_prefix, self.own
        )
        if found not in self.own:
            self._refuse_missing(name)
        if pattern is None:
            return found, "", None
        converter = next(entry for entry in self.converters if pattern in entry.source_patterns)
        return found, pattern, converter

    def _scale(self, module: str, place: _Place, down: StoredTensor) -> float:
        """alpha / r, or alpha / √r where the settings say so; r must be that of the tensors."""
        rank = _by_pattern(self.settings.ranks, place.own, self.settings.rank)
        alpha = _by_pattern(self.settings.alphas, place.own, self.settings.alpha)
        if rank * place.experts != down.shape[0]:
            raise NotAModel(
                f"{self.adapter.name}: its {CONFIG} gives {module} the rank {rank}, its weights have "
                f"{down.shape[0] // place.experts}; use the {CONFIG} that belongs to these weights"
            )
        return float(alpha / (math.sqrt(rank) if self.settings.rank_stabilised else rank))

    def _check_shapes(self, module: str, place: _Place, down: StoredTensor, up: StoredTensor) -> None:
        view = self.own[place.name]
        if place.within:
            view = view[place.within]
        if place.experts > 1:
            view = view[0]
        wanted = tuple(view.shape)
        self._require(module, (up.shape[0], down.shape[1]), wanted[::-1] if place.transposed else wanted)

    def _require(self, what: str, given: Sequence[int], wanted: Sequence[int]) -> None:
        if tuple(given) != tuple(wanted):
            raise NotAModel(
                f"{self.adapter.name} changes {what} as {list(given)}, and {self.model.config.name_or_path} "
                f"has {list(wanted)} there; the adapter was {self._origin()}: give that as its base"
            )

    def _refuse_missing(self, name: str) -> None:
        raise NotAModel(
            f"{self.adapter.name} changes {name}, which {self.model.config.name_or_path} does not have; the "
            f"adapter was {self._origin()}: give that as its base"
        )

    def _origin(self) -> str:
        base = self.settings.base
        return f"made for {base}" if base else "made for another model"


def _name_changed(key: str) -> str:
    """The parameter that a tensor of an adapter changes, by the name of its module."""
    name = key.removeprefix(_PREFIX)
    low_rank = _LOW_RANK.fullmatch(name)
    return name.replace(".base_layer.", ".") if low_rank is None else f"{low_rank['module']}.weight"


def _by_pattern(patterns: Mapping[str, Any], name: str, default: Any) -> Any:
    """The value of the first pattern that a module's name, or the end of it, matches, as peft has it."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
