"""The text model within a multimodal one: transformers' own class, built without what text does not reach.

The class computes text as it does with its vision tower: nothing of it is written anew here. What is left out
is known by name, so that every tensor of a checkpoint is either read, or part of what is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

_KEPT = "left_out"


@dataclass(frozen=True)
class LeftOut:
    """What a model was built without. whole: the class with all of it. parts: its modules, and parameters
    that lie directly in a kept one; names: everything of them, as the whole model's state dict has it;
    mapping: transformers' conversion of checkpoint names for the whole model.
    """

    whole: type[PreTrainedModel]
    parts: tuple[str, ...]
    names: frozenset[str]
    mapping: Sequence[Any]
    prefix: str

    def list_keys(self, keys: Iterable[str], own: Collection[str]) -> set[str]:
        """The keys of a checkpoint that belong to what is left out. own: the names that are not."""
        renamings = [entry for entry in self.mapping if isinstance(entry, WeightRenaming)]
        converters = [entry for entry in self.mapping if isinstance(entry, WeightConverter)]
        whole, found = dict.fromkeys([*own, *self.names], ""), set()
        for key in keys:
            name, _ = rename_source_key(key, renamings, converters, self.prefix, whole)
            if name in self.names or (name not in own and key in self.names):
                found.add(key)
        return found

    def describe(self) -> str:
        """What is said of it beside a model's facts."""
        return f"its text model alone; left out, and not read: {', '.join(self.parts)}"


def find_wrapper(config: Any) -> type[PreTrainedModel] | None:
    """The multimodal class of a configuration, None if it describes a model of text alone, or one of which
    transformers has the text model as a class of its own that reads such checkpoints.
    """
    kind = config.model_type
    name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind) or MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.get(
        kind
    )
    name = name[0] if isinstance(name, tuple) else name
    if name is None or config.get_text_config() is config:
        return None
    causal = getattr(transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, name), None)
    leaves_out = getattr(causal, "_keys_to_ignore_on_load_unexpected", None)
    own = causal is not None and causal.__name__ != name
    if causal is None or (own and (leaves_out or name not in (config.architectures or ()))):
        return None
    found: type[PreTrainedModel] | None = getattr(transformers, name, None)
    return found


def build_text_part(wrapper: type[PreTrainedModel], config: Any, **options: Any) -> PreTrainedModel:
    """The model of a configuration without what its text does not reach, and with random weights."""
    model: PreTrainedModel = _text_class(wrapper)._from_config(config, **options)
    return model


def find_left_out(model: PreTrainedModel) -> LeftOut | None:
    """What a model was built without; None if it is whole."""
    return getattr(model, _KEPT, None)


class _Absent(nn.Module):
    """Stands where a part was taken away: code that asks where it is, even for a text, gets a device on which
    nothing can be computed.
    """

    device = torch.device("meta")


class _TextPart:
    """Put before a multimodal class, it takes away all but the text model once that class is built."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        _leave_out(cast(PreTrainedModel, self), type(self).__mro__[2])


def _text_class(wrapper: type[PreTrainedModel]) -> Any:
    """The class under its own name, as transformers looks conversions up by it, without its other parts."""
    if wrapper not in _built:
        own = {"__module__": wrapper.__module__, "__qualname__": wrapper.__qualname__}
        _built[wrapper] = type(wrapper.__name__, (_TextPart, wrapper), own)
    return _built[wrapper]


_built: dict[Any, Any] = {}
"""Multimodal class → its `_text_class`: one each, since a class is not freed."""


def _leave_out(model: PreTrainedModel, whole: type[PreTrainedModel]) -> None:
    """Remove every part but the decoder, the input embedding and the head; note what it was."""
    mapping = get_model_conversion_mapping(model)
    before = list(model.state_dict())
    read = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    kept = {id(module) for module in read if module is not None}
    parts = list(_remove(model, kept, ""))
    left = frozenset(before) - frozenset(model.state_dict())
    model.all_tied_weights_keys = {
        target: source
        for target, source in model.all_tied_weights_keys.items()
        if target not in left and source not in left
    }
    setattr(model, _KEPT, LeftOut(whole, tuple(parts), left, mapping, model.base_model_prefix))


def _remove(module: nn.Module, kept: set[int], path: str) -> Iterator[str]:
    for name, parameter in list(module.named_parameters(recurse=False)):
        delattr(module, name)
        module.register_buffer(name, parameter.new_empty(0), persistent=False)  # which _init_weights may fill
        yield path + name
    for name, child in list(module.named_children()):
        if id(child) in kept:
            continue
        if any(id(inner) in kept for inner in child.modules()):
            yield from _remove(child, kept, f"{path}{name}.")
        else:
            if any(True for _ in child.parameters()):
                yield path + name
            setattr(module, name, _Absent())
