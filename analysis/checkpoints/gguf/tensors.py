"""Tensors of a GGUF file under transformers' names, each dequantised straight into its parameter.

transformers reads most architectures with one function that dequantises the whole file, and some with
conversions of its own. Both are run here tensor by tensor, and in pieces where their result is row by row, so
that no more than one tensor is in memory beside the model.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from analysis.checkpoints.gguf.config import read_gguf_parameters
from analysis.checkpoints.gguf.contents import GgufHeader, PackedTensor
from analysis.checkpoints.gguf.converted import list_converted
from analysis.checkpoints.gguf.description import REDUNDANT
from analysis.checkpoints.gguf.unpacking import (
    AT_ONCE,
    PIECE,
    OfParts,
    Unpacked,
    fill_rows,
    unpack,
    unpack_slices,
)
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

_Pieces = Literal["rows", "slices", "whole"]


@dataclass(frozen=True)
class ProcessedTensor(OfParts):
    """A parameter from one tensor of the file, or from several that are joined (gate and up of stacked
    experts).

    processor, names: transformers' conversion for this architecture, and its GGUF name → parameter. pieces:
    how it is applied: not at all to rows, to slices of the first dimension, or to the whole tensor.
    """

    processor: Any
    names: Mapping[str, str]
    pieces: _Pieces

    @property
    def unpacking_bytes(self) -> int:
        """See Unpacked: the numbers as float32 and a conversion's copy; of stacked experts one expert's, four
        times.
        """
        if self.pieces == "rows":
            return PIECE
        largest = max(part.numel // part.shape[0] for part in self.parts)
        return PIECE + (16 * self._step * largest if self.pieces == "slices" else 8 * self.parts[0].numel)

    @property
    def _step(self) -> int:
        """How many slices of the first dimension are converted at once."""
        return max(1, AT_ONCE // max(part.numel // part.shape[0] for part in self.parts))

    def read_into(self, out: Tensor) -> None:
        """See Source."""
        if tuple(out.shape) != self.shape:
            raise ValueError(f"{self.key} is {self.shape}, not {tuple(out.shape)}")
        with self.parts[0].path.open("rb", buffering=0) as file:
            if self.pieces == "rows":
                fill_rows(out, self.parts[0], file)
            elif self.pieces == "slices":
                self._fill_slices(out, file)
            else:
                part = self.parts[0]
                numbers = unpack_slices(part, file, range(part.shape[0]))
                out.copy_(_as_tensor(self.processor.process(weights=numbers, name=part.name).weights))

    def _fill_slices(self, out: Tensor, file: BinaryIO) -> None:
        count, step = len(out), self._step
        for first in range(0, count, step):
            rows = range(first, min(first + step, count))
            found: dict[str, dict[str, Tensor]] = {"tensors": {}}
            for part in self.parts:
                self.processor.process(
                    weights=unpack_slices(part, file, rows),
                    name=part.name,
                    tensor_key_mapping=self.names,
                    parsed_parameters=found,
                )
            out[rows.start : rows.stop].copy_(found["tensors"][self.key])


def _as_tensor(numbers: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers))


def map_gguf_tensors(header: GgufHeader, model: PreTrainedModel) -> dict[str, Unpacked]:
    """Every parameter that the file has a tensor for, by its name in `model`, which may be without weights.

    Raises NotAModel for types that transformers does not dequantise, and for tensors that have no place in
    the model.
    """
    from transformers.integrations.gguf import is_gguf_arch_supported

    names = model.state_dict()
    converted = is_gguf_arch_supported(header.architecture)
    found: Mapping[str, Unpacked] = (list_converted if converted else _list_processed)(header, model)
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    left = {key for key in found if key not in names and any(pattern.search(key) for pattern in ignored)}
    used = {part.name for key in found.keys() & (names.keys() | left) for part in found[key].parts}
    for name in header.tensors:
        if name not in used and not REDUNDANT.fullmatch(name):
            raise NotAModel(
                f"{header.path}: transformers has no place for {name} in a {model.config.model_type} "
                "model, so that "
                "its answers would be another model's; use the original model in safetensors format instead"
            )
    kept = {key: source for key, source in found.items() if key not in left}
    _check_shapes(header, kept, names)
    return kept


def _list_processed(header: GgufHeader, model: PreTrainedModel) -> dict[str, ProcessedTensor]:
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    kind = TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)
    processor: Any = kind(config=read_gguf_parameters(header.path))
    names = _map_names(header, model, processor)
    parts: defaultdict[str, list[PackedTensor]] = defaultdict(list)
    how: dict[str, _Pieces] = {}
    for tensor in header.tensors.values():
        unpack(bytes(_block_bytes(tensor)), tensor.kind, tensor)
        key, pieces = _try(tensor, processor, names)
        if key is None:
            continue
        if key in parts and (pieces != "slices" or how[key] != "slices"):
            raise NotAModel(
                f"{header.path} holds {parts[key][0].name} and {tensor.name} for one weight{AGAIN}"
            )
        parts[key].append(tensor)
        how[key] = pieces
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    return {
        key: ProcessedTensor(key, shapes.get(key, ()), tuple(found), processor, names, how[key])
        for key, found in parts.items()
    }


def _block_bytes(tensor: PackedTensor) -> int:
    """Bytes of the shortest piece of a tensor that can be dequantised."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return int(GGML_QUANT_SIZES[GGMLQuantizationType[tensor.kind]][1])


def _try(tensor: PackedTensor, processor: Any, names: Mapping[str, str]) -> tuple[str | None, _Pieces]:
    """The parameter that a tensor belongs to, and how its conversion can be applied, from a try without
    numbers.
    """
    trial = np.empty((0, *tensor.shape[1:]), np.float32)
    found: dict[str, dict[str, Tensor]] = {"tensors": {}}
    try:
        result = processor.process(
            weights=trial, name=tensor.name, tensor_key_mapping=names, parsed_parameters=found
        )
    except KeyError:  # a joined tensor without a place
        return None, "whole"
    except ValueError:  # it splits what has no numbers
        return names.get(tensor.name), "whole"
    if result.name is None:
        (key,) = found["tensors"]
        return key, "slices"
    return names.get(result.name), "rows" if result.weights is trial else "whole"


class _Names:
    """Stands for a model where only its configuration and the names of its weights are read: transformers
    looks into every module below, which takes seconds, though names are known at the first two levels only.
    """

    def __init__(self, config: Any, state: Sequence[str], prefix: str = "") -> None:
        self.config, self._state, self._prefix = config, state, prefix

    def state_dict(self) -> Sequence[str]:
        """The names of the weights."""
        return self._state

    def named_children(self) -> list[tuple[str, _Names]]:
        """The model without its head, under its name."""
        start = f"{self._prefix}."
        inner = [name.removeprefix(start) for name in self._state if name.startswith(start)]
        return [(self._prefix, _Names(self.config, inner))] if self._prefix and inner else []


def _map_names(header: GgufHeader, model: PreTrainedModel, processor: Any) -> dict[str, str]:
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    names: Any = _Names(model.config, list(model.state_dict()), model.base_model_prefix)
    try:
        found: dict[str, str] = get_gguf_hf_weights_map(names, processor)
    except NotImplementedError as error:
        why = str(error).split(". ")[0]
        raise NotAModel(
            f"{header.path}: transformers refuses it ({why}); use the original model in safetensors "
            "format instead"
        ) from error
    return found


def _check_shapes(header: GgufHeader, found: Mapping[str, Unpacked], names: Mapping[str, Tensor]) -> None:
    for key, source in found.items():
        if source.numel != names[key].numel():
            shapes = " and ".join(f"{part.name} {list(part.shape)}" for part in source.parts)
            raise NotAModel(
                f"{header.path}: {shapes} does not fit {key}, which is {list(names[key].shape)} by its "
                f"metadata{AGAIN}"
            )
