"""Loading of weights: every tensor is read once, straight into its parameter.

transformers defines how checkpoint tensors are renamed, stacked (experts) and joined (gate and up). With
tensors in memory that takes two or three copies of a group. So it gets placeholders for tensors on disk,
which record how they are joined; only the last join allocates a tensor, and each part is read into its place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
)
from transformers.pytorch_utils import Conv1D

from analysis.checkpoints.adapters.files import Adapter
from analysis.checkpoints.adapters.merging import Merge
from analysis.checkpoints.devices import place_modules
from analysis.checkpoints.matching import match_checkpoint
from analysis.checkpoints.quantised.parts import DequantisedTensor, TransposedTensor
from analysis.checkpoints.reading import read_tensors
from analysis.checkpoints.stored import AGAIN, Source
from analysis.checkpoints.wrappers.building import DEFAULT_DTYPE, build_empty
from analysis.checkpoints.wrappers.text_part import build_text_part, find_wrapper
from analysis.errors import HeadlampError, ModelError, NotAModel, first_line

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")
"""Otherwise transformers' threads read tensors ahead of conversion and hold the weights twice."""

_JOINS: dict[tuple[type, ...], int] = {
    (MergeModulelist,): 1,
    (Concatenate,): 1,
    (MergeModulelist, Concatenate): 2,
}
"""How often pure joining converters join tensors; inputs of any other converter are read at once."""


def read_weights(
    name: str, path: Path, config: Any, device: str, dtype: torch.dtype, adapter: Adapter | None = None
) -> PreTrainedModel:
    """Load the model in a folder or GGUF file on a device, or spread over several, ready for inference.

    adapter: one to be merged into its weights. Extra memory: at most one buffer (stored.BUFFER), the inputs
    of converters that do more than join, and tiles of a weight that an adapter changes. Raises ModelError
    with what to do instead.
    """
    try:
        empty = empty_model(config, dtype)
        merge = None if adapter is None else Merge(empty, adapter)
        tensors = read_tensors(path, empty)
        with DEFAULT_DTYPE:
            model, report = type(empty).from_pretrained(
                None,
                config=empty.config,
                state_dict=wrap_checkpoint(empty, tensors, get_model_conversion_mapping(empty)),
                dtype=dtype,
                device_map=place_modules(device, empty),
                output_loading_info=True,
            )
        take_generation_config(model, path)
    except HeadlampError:
        raise
    except Exception as error:  # the edge to transformers: any way of refusing a folder
        raise ModelError(f"{name} could not be loaded on {device}: {first_line(error)}") from error
    _refuse_incomplete(name, report)
    if merge is not None:
        merge.merge(model)
    refuse_overflow(name, dict(model.named_parameters()))
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def take_generation_config(model: PreTrainedModel, path: Path) -> None:
    """Read the generation config, which names the end-of-text tokens. Raises ModelError if unreadable."""
    file = path / "generation_config.json"
    if file.is_file():
        try:
            model.generation_config = GenerationConfig.from_pretrained(path, local_files_only=True)
        except Exception as error:  # the edge to transformers
            raise ModelError(f"{file}: {first_line(error)}; fetch the model again") from error


def empty_model(config: Any, dtype: torch.dtype) -> PreTrainedModel:
    """Build the model of a config without weights; its buffers are real. Of a multimodal one it is the text
    model (see `wrappers`). Raises NotAModel if impossible.
    """
    wrapper = find_wrapper(config)
    if wrapper is not None:
        return build_empty(lambda: build_text_part(wrapper, config, dtype=dtype), config)
    make = AutoModelForCausalLM.from_config
    return build_empty(lambda: make(config, dtype=dtype, trust_remote_code=False), config)


def _refuse_incomplete(name: str, report: Any) -> None:
    """Refuse checkpoints with missing weights."""
    made_up = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    if made_up:
        raise ModelError(
            f"{name} is incomplete: {len(made_up)} weights are missing or of another shape, "
            f"{made_up[0]} first{AGAIN}"
        )


def refuse_overflow(name: str, parameters: Mapping[str, Tensor]) -> None:
    """Refuse float16 where a weight became infinite in it: its largest number is 65,504."""
    for parameter, values in parameters.items():
        if values.dtype == torch.float16 and not torch.isfinite(values).all():
            raise ModelError(
                f"{name}: {parameter} has values that are not finite in float16, which ends at 65,504; open "
                "it in bfloat16 or float32"
            )


def refuse_not_finite(name: str, parameters: Mapping[str, Tensor], cause: Exception) -> None:
    """Refuse weights that hold NaN or infinity, with which nothing can be proven. Raises ModelError."""
    for parameter in parameters:
        if not torch.isfinite(parameters[parameter]).all():
            raise ModelError(
                f"{name}: {parameter} holds NaN or infinity, so the model computes nothing; fetch or save it "
                "again"
            ) from cause


@dataclass(frozen=True)
class OnDisk:
    """Placeholder for a tensor of shape `shape` on disk. joins: how many joins are left; it is read when none
    is.
    """

    shape: tuple[int, ...]
    joins: int
    fill: Callable[[Tensor], None]
    dtype: torch.dtype | None = None
    device: Any = None

    def __getitem__(self, index: Any) -> OnDisk:
        """transformers indexes with `[...]` to read a slice of a file."""
        return self

    def to(self, *, device: Any, dtype: torch.dtype) -> OnDisk | Tensor:
        """The same placeholder with another dtype or device."""
        return replace(self, device=device, dtype=dtype).read_if_whole()

    def read_if_whole(self) -> OnDisk | Tensor:
        """Read the tensor if no join is left."""
        if self.joins:
            return self
        out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        self.fill(out)
        return out

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None
    ) -> OnDisk | Tensor:
        """torch.stack and torch.cat of placeholders."""
        parts, dim = args[0], (kwargs or {})["dim"]
        joined = {torch.stack: _stack, torch.cat: _concatenate}[function](parts, dim)
        return joined.read_if_whole()


def wrap_checkpoint(
    model: PreTrainedModel, tensors: Mapping[str, Source], mapping: Sequence[Any]
) -> dict[str, OnDisk]:
    """Wrap a checkpoint as the `state_dict` from which transformers loads a model.

    mapping: transformers' conversion of checkpoint names and layouts for this model. Raises ModelError as
    `match_checkpoint`, and NotAModel if tensors to be stacked differ in shape.
    """
    matched, own = match_checkpoint(model, tensors, mapping), model.state_dict()
    found, stacked = {}, dict[tuple[str, str | None], str]()
    for key, name in matched.names.items():
        pattern, converter = matched.converters.get(key, (None, None))
        source = _orient(model, name, tensors[key])
        stored_as = source.dtype
        if own[name].is_floating_point() and (not stored_as.is_floating_point or stored_as.itemsize == 1):
            dtype, where = str(stored_as).removeprefix("torch."), model.config.name_or_path
            raise NotAModel(
                f"{where}: {key} is stored as {dtype}, as quantised weights are, and nothing says by which "
                "scale; use the model in float32, bfloat16 or float16"
            )
        if converter is None and tuple(own[name].shape) != source.shape:
            stored, described = list(source.shape), list(own[name].shape)
            raise NotAModel(
                f"{model.config.name_or_path}: {key} has the shape {stored} in the weights, and config.json "
                f"describes {described}; use the config that belongs to these weights"
            )
        steps = () if converter is None else tuple(type(step) for step in converter.operations)
        if MergeModulelist in steps:
            first = stacked.setdefault((name, pattern), key)
            if tensors[first].shape != source.shape:
                shapes = f"{first} is {tensors[first].shape}, {key} is {tensors[key].shape}"
                raise NotAModel(f"{model.config.name_or_path}: {shapes}, but both must be equal{AGAIN}")
        found[key] = OnDisk(source.shape, _JOINS.get(steps, 0), source.read_into)
    return found


def _orient(model: PreTrainedModel, name: str, source: Source) -> Source:
    """A tensor as its parameter has it: Conv1D keeps (inputs, outputs), some formats never do."""
    if not isinstance(source, DequantisedTensor) or not source.outputs_first:
        return source
    owner = model.get_submodule(name.rpartition(".")[0])
    return TransposedTensor(source) if isinstance(owner, Conv1D) else source


def _stack(parts: Sequence[OnDisk], dim: int) -> OnDisk:
    """torch.stack for placeholders."""

    def fill(out: Tensor) -> None:
        for part, place in zip(parts, out.unbind(dim), strict=True):
            part.fill(place)

    shape = list(parts[0].shape)
    shape.insert(dim, len(parts))
    return _join(parts, shape, fill)


def _concatenate(parts: Sequence[OnDisk], dim: int) -> OnDisk:
    """torch.cat for placeholders."""

    def fill(out: Tensor) -> None:
        for part, place in zip(parts, out.split([part.shape[dim] for part in parts], dim), strict=True):
            part.fill(place)

    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return _join(parts, shape, fill)


def _join(parts: Sequence[OnDisk], shape: Sequence[int], fill: Callable[[Tensor], None]) -> OnDisk:
    if math.prod(shape) != sum(math.prod(part.shape) for part in parts):
        raise ValueError("tensors of these shapes cannot be joined")
    return replace(parts[0], shape=tuple(shape), joins=parts[0].joins - 1, fill=fill)
