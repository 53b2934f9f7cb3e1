"""A model's weights read once, each straight into the parameter it is for.

transformers says what becomes of a checkpoint's tensors: it renames them, stacks experts, joins gate and up.
Handed whole tensors, it would hold those of a group two or three times over while it joins them. So it is
handed tensors that are still on disk, which keep account of how they are joined; only the last joining makes
a tensor, and each part is read into its place in it.
"""

from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from analysis.checkpoints.devices import placement
from analysis.checkpoints.headers import stored_tensors
from analysis.checkpoints.sources import first_line
from analysis.checkpoints.stored import AGAIN, Source
from analysis.errors import HeadlampError, ModelError, NotAModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
"""Else threads of transformers read all tensors ahead of their conversion, and hold weights twice."""

_JOINS: dict[tuple[type, ...], int] = {
    (MergeModulelist,): 1,
    (Concatenate,): 1,
    (MergeModulelist, Concatenate): 2,
}
"""How often the converters that do nothing else join tensors; what any other is given is read at once."""


def read_weights(name: str, path: Path, config: Any, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """The model in a folder with its weights on a device, or spread over several; made ready to be read.

    Beside the weights at most a buffer is held (stored.BUFFER), and what a converter that does more than
    join is given. Raises ModelError with what to do instead.
    """
    tensors = stored_tensors(path)
    try:
        empty = empty_model(config, dtype)
        model, report = type(empty).from_pretrained(
            None,
            config=empty.config,
            state_dict=on_disk(empty, tensors, get_model_conversion_mapping(empty)),
            dtype=dtype,
            device_map=placement(device, empty),
            output_loading_info=True,
        )
        take_generation_config(model, path)
    except HeadlampError:
        raise
    except Exception as error:  # the edge to transformers: every way it has of refusing a folder
        raise ModelError(f"{name} could not be loaded on {device}: {first_line(error)}") from error
    _refuse_incomplete(name, report, config)
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def take_generation_config(model: PreTrainedModel, path: Path) -> None:
    """Which tokens end a text is said there. Raises ModelError for a file that cannot be read."""
    file = path / "generation_config.json"
    if file.is_file():
        try:
            model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
        except Exception as error:  # the edge to transformers
            raise ModelError(f"{file}: {first_line(error)}; fetch the model again") from error


def empty_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a config without weights; its buffers are real. Raises NotAModel where there is none."""
    _building.empty = True
    try:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    except Exception as error:  # each family refuses a config in its own way
        raise NotAModel(
            f"no model can be made of {config.name_or_path}/config.json: {first_line(error)}"
        ) from error
    finally:
        _building.empty = False
    model.tie_weights()
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


_building = threading.local()
"""Whether this thread builds a model without weights; others may be loading one."""


def _without_weights(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or parameter.is_meta or not getattr(_building, "empty", False):
        return None
    return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)


register_module_parameter_registration_hook(_without_weights)  # type: ignore[arg-type]


def _refuse_incomplete(name: str, report: Any, config: Any) -> None:
    """Weights that would be made up, or layers that the config leaves out, are no model to report on."""
    made_up = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if made_up:
        raise ModelError(
            f"{name} is incomplete: {len(made_up)} weights are missing or of another shape, "
            f"{made_up[0]} first{AGAIN}"
        )
    layers = config.get_text_config().num_hidden_layers
    for key in sorted(report["unexpected_keys"]):
        number = re.search(r"\.(?:layers|h|blocks)\.(\d+)\.", key)
        if number is not None and int(number.group(1)) >= layers:
            raise ModelError(
                f"{name}: its config says {layers} layers, but its weights hold {key}; "
                "give the config that belongs to these weights"
            )


@dataclass(frozen=True)
class OnDisk:
    """What stands for a tensor of shape `shape` whose numbers are still on disk. joins: how often it will be
    joined to others yet; it is read when none is left."""

    shape: tuple[int, ...]
    joins: int
    fill: Callable[[Tensor], None]
    dtype: torch.dtype | None = None
    device: Any = None

    def __getitem__(self, index: Any) -> OnDisk:
        """transformers asks for `[...]` where it would read a slice of a file."""
        return self

    def to(self, *, device: Any, dtype: torch.dtype) -> OnDisk | Tensor:
        """The same, to become this dtype on this device."""
        return replace(self, device=device, dtype=dtype).read_if_whole()

    def read_if_whole(self) -> OnDisk | Tensor:
        """The tensor itself where nothing is left to join it to."""
        if self.joins:
            return self
        out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        self.fill(out)
        return out

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> OnDisk | Tensor:
        """torch.stack and torch.cat of parts on disk."""
        parts, dim = args[0], (kwargs or {})["dim"]
        joined = {torch.stack: _stacked, torch.cat: _concatenated}[function](parts, dim)
        return joined.read_if_whole()


def on_disk(
    model: PreTrainedModel, tensors: Mapping[str, Source], mapping: Sequence[Any]
) -> dict[str, OnDisk]:
    """A checkpoint as the `state_dict` that transformers loads a model from.

    mapping: transformers' conversion of checkpoint names and layouts for this model. Raises NotAModel where
    tensors that are to be stacked have different shapes.
    """
    names = model.state_dict()
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    found, stacked = {}, dict[tuple[str, str | None], str]()
    for key in sorted(tensors, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, names)
        kept = name not in names and key in names
        converter = None if pattern is None or kept else by_pattern[pattern]
        steps = () if converter is None else tuple(type(step) for step in converter.operations)
        if MergeModulelist in steps:
            first = stacked.setdefault((name, pattern), key)
            if tensors[first].shape != tensors[key].shape:
                shapes = f"{first} is {tensors[first].shape}, {key} is {tensors[key].shape}"
                raise NotAModel(f"{model.config.name_or_path}: {shapes}, where both must be alike{AGAIN}")
        found[key] = OnDisk(tensors[key].shape, _JOINS.get(steps, 0), tensors[key].read_into)
    return found


def _stacked(parts: Sequence[OnDisk], dim: int) -> OnDisk:
    """As torch.stack."""

    def fill(out: Tensor) -> None:
        for part, place in zip(parts, out.unbind(dim), strict=True):
            part.fill(place)

    shape = list(parts[0].shape)
    shape.insert(dim, len(parts))
    return _joined(parts, shape, fill)


def _concatenated(parts: Sequence[OnDisk], dim: int) -> OnDisk:
    """As torch.cat."""

    def fill(out: Tensor) -> None:
        for part, place in zip(parts, out.split([part.shape[dim] for part in parts], dim), strict=True):
            part.fill(place)

    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return _joined(parts, shape, fill)


def _joined(parts: Sequence[OnDisk], shape: Sequence[int], fill: Callable[[Tensor], None]) -> OnDisk:
    if math.prod(shape) != sum(math.prod(part.shape) for part in parts):
        raise ValueError("tensors of these shapes cannot be joined")
    return replace(parts[0], shape=tuple(shape), joins=parts[0].joins - 1, fill=fill)
