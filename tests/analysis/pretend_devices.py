"""Devices that a machine without any can be tested with: tensors that lie on the CPU and say otherwise.

An operation on tensors of two devices is an error, as it is on real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter, tree_map
from transformers import PreTrainedModel

KIND = "ipu"
"""A kind of device that torch has a name for and nothing else."""
_parse_to: Any = torch._C._nn._parse_to
_TAKES_INDICES_OF_THE_CPU = ("aten::index", "aten::index_put_")


class Placed(Tensor):
    """A tensor that says it lies on a device of that kind."""

    numbers: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, inner: Tensor, place: torch.device) -> Placed:
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("cpu"),
        )
        made.numbers, made.place = inner, place
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Placed({self.numbers!r}, {self.place})"

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        return _moved(self, *args, **kwargs)

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.numbers

    def data_ptr(self) -> int:
        return self.numbers.data_ptr()

    def tolist(self) -> Any:
        return self.numbers.tolist()

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _carried_out(function, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """Makes tensors on such a device, or moves one there, where that is asked for."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is Tensor.to:
            return _moved(*args, **kwargs)
        for kind in types:
            if not issubclass(kind, Tensor):  # which makes tensors of its own
                with self:
                    return kind.__torch_function__(function, types, args, kwargs)
        asked = kwargs.get("device")
        if asked is None or torch.device(asked).type != KIND or function is _parse_to:
            return function(*args, **kwargs)
        del kwargs["device"]
        made = function(*args, **kwargs)
        return Placed(made.numbers if isinstance(made, Placed) else made, torch.device(asked))


def _moved(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    device, dtype, *_ = _parse_to(*args, **kwargs)
    place = tensor.device if device is None else device
    if place == tensor.device and dtype in (None, tensor.dtype):
        return tensor
    inner = tensor.numbers if isinstance(tensor, Placed) else tensor
    inner = inner if dtype is None else inner.to(dtype)
    return Placed(inner, place) if place.type == KIND else inner


def _carried_out(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [t for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)]
    places = {t.device for t in tensors if t.dim() or isinstance(t, Placed)}
    name = function._schema.name
    if name in _TAKES_INDICES_OF_THE_CPU:
        places -= {torch.device("cpu")}
    if len(places) > 1 and name not in ("aten::copy_", "aten::_to_copy"):
        raise RuntimeError(f"{name}: tensors on {sorted(map(str, places))}")
    asked = kwargs.get("device")
    place = torch.device(asked) if asked is not None else next(iter(places), torch.device("cpu"))
    if name == "aten::copy_":
        place = args[0].device
    inner = {k: v for k, v in kwargs.items() if k != "device"}
    if asked is not None:
        inner["device"] = "cpu"
    args, inner = tree_map(lambda t: t.numbers if isinstance(t, Placed) else t, (args, inner))
    if name == "aten::histc":  # which counts whole numbers on an accelerator alone
        args = (args[0].float(), *args[1:])
    made = function(*args, **inner)
    if place.type != KIND:
        return made
    return tree_map(lambda t: Placed(t, place) if isinstance(t, Tensor) else t, made)


@contextmanager
def pretended() -> Iterator[None]:
    """Tensors can be made on such devices while the body lasts."""
    with _Factories():
        yield


def placed(model: PreTrainedModel, devices: int) -> PreTrainedModel:
    """The model on the first such device, or dispatched by accelerate: the later layers on the second."""
    where = _device_map(model, devices)
    held: dict[int, nn.Parameter] = {}
    for name, place in where.items():
        for module in model.get_submodule(name).modules():
            for key, parameter in module._parameters.items():
                if parameter is not None and id(parameter) not in held:
                    held[id(parameter)] = nn.Parameter(Placed(parameter.data, place), requires_grad=False)
                    held[id(held[id(parameter)])] = held[id(parameter)]
                if parameter is not None:
                    module._parameters[key] = held[id(parameter)]
            for key, buffer in module._buffers.items():
                if buffer is not None and not isinstance(buffer, Placed):
                    module._buffers[key] = Placed(buffer, place)
    if devices > 1:
        dispatch_model(model, where, skip_keys=model._skip_keys_device_placement)
    return model


def _device_map(model: PreTrainedModel, devices: int) -> dict[str, torch.device]:
    """Whole layers on a device each, what comes before them on the first, what comes after on the last."""
    first, last = torch.device(KIND, 0), torch.device(KIND, devices - 1)
    where: dict[str, torch.device] = {}
    place = first
    for name, child in model.base_model.named_children():
        full = f"{model.base_model_prefix}.{name}"
        if isinstance(child, nn.ModuleList):
            where |= {f"{full}.{i}": torch.device(KIND, min(i, devices - 1)) for i in range(len(child))}
            place = last
        else:
            where[full] = place
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    return where | {"lm_head": first if tied else last}
