"""Which parameter each tensor of a checkpoint becomes; tensors without a place are left out or refused.

The names are transformers' own conversion; so are the tensors it leaves out on purpose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)
from transformers.utils.loading_report import LoadStateDictInfo

from analysis.checkpoints.wrappers.text_part import find_left_out
from analysis.errors import ModelError

_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_EXTRA_LAYERS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""Configuration entries for layers behind the last one that predict further tokens (MTP)."""
_OLD_BUFFERS = re.compile(
    r"\b(attn|attention|self_attn)\.(bias|masked_bias|causal_mask)$|\binv_freq$|\bembed_positions\.weights$"
    r"|^transformer\.bias$"
)
"""Masks and position tables that older versions saved, and that models now make themselves."""
_OTHER_HEADS = re.compile(
    r"^(v_head|value_head|score|classifier|qa_outputs|cls\.seq_relationship)\b|\bpooler\."
)
_WRAPPERS = {
    "_orig_mod.": "torch.compile leaves them; save the model again from its uncompiled module",
    "_fsdp_wrapped_module.": "FSDP leaves them; save the model again from its whole state",
    "_checkpoint_wrapped_module.": "activation checkpointing leaves them; save the model again without it",
    "base_model.model.": "peft leaves them; merge the adapter and save the model itself",
    ".base_layer.": "peft leaves them; merge the adapter and save the model itself",
    "module.": "DataParallel leaves them; save the model again from its inner module",
}
_QUANTISED = {
    r"\.(qweight|qzeros|g_idx)$": "GPTQ or AWQ",
    r"\.weight_(scale|scale_inv|packed|shape)$": "FP8, int8 or compressed-tensors",
    r"\.(absmax|quant_map|quant_state\.[\w]+|SCB)$": "bitsandbytes",
    r"_proj_(blocks|scales)$": "MXFP4",
    r"\.(scales|biases)$": "GPTQ, AWQ or MLX",
}


@dataclass(frozen=True)
class Matched:
    """Where a checkpoint's tensors go. names: key → name in the model's state dict; converters: key →
    transformers' converter, where one applies; left_out: keys that the model ignores on purpose.
    """

    names: Mapping[str, str]
    converters: Mapping[str, tuple[str, WeightConverter]]
    left_out: tuple[str, ...]


def match_checkpoint(model: PreTrainedModel, keys: Collection[str], mapping: Sequence[Any]) -> Matched:
    """Match checkpoint keys with a model's parameters and buffers, in natural order of the keys.

    mapping: transformers' conversion of checkpoint names and layouts for this model. Raises ModelError for
    keys that are neither used nor ignored on purpose, saying which and why: transformers would drop them in
    silence.
    """
    own = model.state_dict()
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    names, found, unknown = {}, {}, {}
    for key in sorted(keys, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, own)
        if name not in own and key in own:
            name, pattern = key, None
        if name not in own:
            unknown[key] = name
            continue
        names[key] = name
        if pattern is not None:
            found[key] = pattern, by_pattern[pattern]
    left, left_out = find_left_out(model), set(_find_ignored(model, unknown))
    if left is not None:
        left_out |= left.list_keys(unknown, own)
    unused = [key for key in unknown if key not in left_out]
    if unused:
        raise ModelError(_explain_unused(model, unused))
    return Matched(names, found, tuple(key for key in unknown if key in left_out))


def _find_ignored(model: PreTrainedModel, unknown: Mapping[str, str]) -> list[str]:
    """The keys that the model's own code ignores, and extra layers that predict further tokens."""
    info = LoadStateDictInfo(set(), set(unknown.values()), set(), [], {}, set())
    model._adjust_missing_and_unexpected_keys(info)
    text = model.config.get_text_config()
    layers = _count_layers(model)
    extra = sum(n for name in _EXTRA_LAYERS if isinstance(n := getattr(text, name, None), int))
    return [
        key
        for key, name in unknown.items()
        if name not in info.unexpected_keys
        or _OLD_BUFFERS.search(name)
        or ((number := _layer_number(name)) is not None and layers <= number < layers + extra)
    ]


def _count_layers(model: PreTrainedModel) -> float:
    """How many layers the configuration names; without a number, no layer is beyond the last."""
    layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    return layers if isinstance(layers, int) else math.inf


def _layer_number(name: str) -> int | None:
    found = _LAYER.search(name)
    return None if found is None else int(found[1])


def _explain_unused(model: PreTrainedModel, unused: Sequence[str]) -> str:
    """Why tensors have no place in the model, and what to do."""
    where, kind, first = model.config.name_or_path, type(model).__name__, unused[0]
    for part, reason in _WRAPPERS.items():
        if first.startswith(part) or (part != "module." and part in first):
            return f"{where}: the names of its tensors hold {part!r}, as {reason}, or rename them"
    for pattern, method in _QUANTISED.items():
        if (quantised := next((key for key in unused if re.search(pattern, key)), None)) is not None:
            return (
                f"{where} holds quantised weights ({method}: {quantised}) that its config.json does not "
                "describe, so that they cannot be read; use the config.json that belongs to them, or "
                "the model in float32, bfloat16 or float16"
            )
    if any(".lora_" in key for key in unused):
        return f"{where} holds an adapter's weights ({first}) beside a model's; merge them with peft first"
    head = next((key for key in unused if _OTHER_HEADS.search(key)), None)
    if head is not None:
        return (
            f"{where} holds {head}, of a head for another task (a reward, a class, a pooled state) that a "
            f"{kind} does not have; save the causal model without it"
        )
    layers = _count_layers(model)
    beyond = next((key for key in unused if (_layer_number(key) or 0) >= layers), None)
    if beyond is not None:
        return (
            f"{where}: its config has {layers} layers, but its weights contain {beyond}; "
            "use the config that belongs to these weights"
        )
    return (
        f"{where}: {len(unused)} tensors of its weights have no place in the {kind} that its config.json "
        f"describes, {first} first; without them it would be another model: use the config that belongs to "
        "these weights"
    )


def untie_stored_twice(
    model: PreTrainedModel, names: Iterable[str], equal: Callable[[str, str], bool]
) -> None:
    """Untie parameters that the config ties but the checkpoint holds apart, as transformers does.

    names: those in the checkpoint, as the model's state dict has them. equal: whether two of them hold the
    same numbers.
    """
    there = set(names)
    for target, source in dict(model.all_tied_weights_keys).items():
        if target in there and source in there and not equal(target, source):
            owner, _, leaf = target.rpartition(".")
            like = model.get_parameter(target)
            fresh = nn.Parameter(like.detach().clone(), requires_grad=False)
            model.get_submodule(owner)._parameters[leaf] = fresh
            del model.all_tied_weights_keys[target]
