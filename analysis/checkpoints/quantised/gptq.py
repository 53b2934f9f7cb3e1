"""GPTQ and AWQ weights: integers of 2 to 8 bits with a scale and a zero point per group of inputs.

The layouts are those that AutoGPTQ and AutoAWQ publish. transformers has no code of its own for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from analysis.checkpoints.quantised.packed_integers import WORD, unpack_integers
from analysis.checkpoints.quantised.parts import DequantisedTensor, Part, read_part, split_rows
from analysis.checkpoints.stored import AGAIN
from analysis.errors import NotAModel

_BITS = (2, 3, 4, 8)
_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Where AWQ puts each of 8 neighbouring outputs within its word."""


@dataclass(frozen=True)
class _Groups(DequantisedTensor):
    """Integers (inputs, outputs) in groups of inputs; each group has a scale and a zero per output. As a
    parameter (outputs, inputs). groups: inputs of a group as the configuration has them, −1 for all of them.
    """

    outputs_first = True
    groups: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """See DequantisedTensor."""
        return self._outputs, self._inputs

    def read_into(self, out: Tensor) -> None:
        """See Source: (integer − zero) × scale, exact in float32, then rounded once."""
        self._require_shape(out)
        scales = read_part(self.parts["scales"]).float()
        zeros = self._read_zeros()
        group = self._read_group_of_inputs(len(scales))
        for inputs, numbers in self._pieces():
            at = group[inputs.start : inputs.stop]
            out[:, inputs.start : inputs.stop].copy_(((numbers - zeros[at]) * scales[at]).T)

    @property
    def _outputs(self) -> int:
        return self.parts["scales"].shape[1]

    @property
    def _inputs(self) -> int:
        raise NotImplementedError

    def _read_zeros(self) -> Tensor:
        """(groups, outputs) int32."""
        raise NotImplementedError

    def _pieces(self) -> Iterator[tuple[range, Tensor]]:
        """Inputs, and their integers (inputs, outputs) int32."""
        raise NotImplementedError

    def _read_group_of_inputs(self, groups: int) -> Tensor:
        """(inputs,) int64: the group of each. Raises NotAModel for an index of no group."""
        if "g_idx" in self.parts:
            found = read_part(self.parts["g_idx"]).long()
            if found.shape != (self._inputs,) or not 0 <= int(found.min()) <= int(found.max()) < groups:
                raise NotAModel(f"the group indices of {self.key} do not fit its {groups} groups{AGAIN}")
            return found
        return torch.arange(self._inputs) // next(size for size in self.sizes if self._fits(size, groups))

    def require_group(self) -> None:
        """Raise NotAModel where the groups are not those of the configuration."""
        groups = self.parts["scales"].shape[0]
        if not any(self._fits(size, groups) for size in self.sizes):
            stated = " or ".join("all" if size == -1 else str(size) for size in self.groups)
            raise NotAModel(
                f"{self.key} has {self._inputs} inputs in {groups} groups, but by its config.json a group "
                f"has {stated}; use the config.json that belongs to these weights"
            )

    @property
    def sizes(self) -> Iterator[int]:
        """Inputs of a group, as they are counted."""
        return (max(1, self._inputs) if size == -1 else size for size in self.groups)

    def _fits(self, size: int, groups: int) -> bool:
        return -(-self._inputs // size) == groups


@dataclass(frozen=True)
class GptqTensor(_Groups):
    """Words that hold neighbouring inputs of one output. stored_less: how much less than the zero itself is
    stored: 1 in the first version of the format.
    """

    stored_less: int

    @cached_property
    def bits(self) -> int:
        """Bits of an integer, from the shapes: layers of one model may differ."""
        zeros = self.parts["qzeros"].shape[1]
        found = zeros * WORD // max(self._outputs, 1)
        if found not in _BITS or found * self._outputs != zeros * WORD:
            raise NotAModel(f"{self.key} has {zeros} words of zeros for {self._outputs} outputs{AGAIN}")
        return found

    @property
    def _inputs(self) -> int:
        return self.parts["qweight"].shape[0] * WORD // self.bits

    def _read_zeros(self) -> Tensor:
        zeros = unpack_integers(read_part(self.parts["qzeros"]), self.bits)
        return (zeros + self.stored_less) & ((1 << self.bits) - 1)

    def _pieces(self) -> Iterator[tuple[range, Tensor]]:
        words = self.parts["qweight"]
        whole = self.bits if WORD % self.bits else 1  # words after which integers begin with a word again
        for rows in split_rows(words.shape[0], self._outputs * WORD // self.bits, whole):
            inputs = range(rows.start * WORD // self.bits, rows.stop * WORD // self.bits)
            yield inputs, unpack_integers(read_part(words.rows(rows)).T.contiguous(), self.bits).T


class AwqTensor(_Groups):
    """Words that hold 8 neighbouring outputs of one input, in an order of their own."""

    @property
    def _inputs(self) -> int:
        return self.parts["qweight"].shape[0]

    def _read_zeros(self) -> Tensor:
        return _unpack_awq(read_part(self.parts["qzeros"]))

    def _pieces(self) -> Iterator[tuple[range, Tensor]]:
        words = self.parts["qweight"]
        for rows in split_rows(self._inputs, self._outputs):
            yield rows, _unpack_awq(read_part(words.rows(rows)))


def _unpack_awq(words: Tensor) -> Tensor:
    """The integers (n, outputs) of words (n, outputs / 8)."""
    found = unpack_integers(words, 4)
    return found.view(len(words), -1, 8)[..., _AWQ_ORDER].reshape(found.shape)


def make_gptq(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> GptqTensor:
    """The weight of a GPTQ layer's parts. Raises NotAModel if their shapes contradict each other."""
    less = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    found = GptqTensor(key, parts, _read_groups(settings), less)
    _check_groups(found, (found.parts["scales"].shape[0], found.parts["qzeros"].shape[1]))
    stated = _read_bits(settings)
    if stated and found.bits not in stated:
        raise NotAModel(
            f"{key} has {found.bits} bits a number by its zeros, and by its config.json {_list(stated)}; use "
            "the config.json that belongs to these weights"
        )
    if settings.get("desc_act") and "g_idx" not in parts:
        raise NotAModel(
            f"{key} has no g_idx, which says in which group each input is, as config.json has them in the "
            f"order of their activations (desc_act){AGAIN}"
        )
    return found


def make_awq(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> AwqTensor:
    """The same of an AWQ layer."""
    found = AwqTensor(key, parts, _read_groups(settings))
    _check_groups(found, (found.parts["scales"].shape[0], parts["qweight"].shape[1]))
    if parts["qweight"].shape[1] * 8 != found.shape[0]:
        raise NotAModel(
            f"{key} has {parts['qweight'].shape[1]} words an input for {found.shape[0]} outputs{AGAIN}"
        )
    return found


def _read_groups(settings: Mapping[str, Any]) -> tuple[int, ...]:
    sizes = tuple(dict.fromkeys([settings.get("group_size", 128), *_list_dynamic(settings, "group_size")]))
    for size in sizes:
        if type(size) is not int or size == 0 or size < -1:
            raise NotAModel(f"config.json gives groups of {size!r} inputs, not a whole number or −1{AGAIN}")
    return sizes


def _read_bits(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The bits that a configuration states; none where it leaves them open."""
    if "bits" not in settings:
        return ()
    found = tuple(dict.fromkeys([settings["bits"], *_list_dynamic(settings, "bits")]))
    for bits in found:
        if type(bits) is not int or bits not in _BITS:
            raise NotAModel(f"config.json gives GPTQ weights {bits!r} bits, not {_list(_BITS)}{AGAIN}")
    return found


def _list_dynamic(settings: Mapping[str, Any], name: str) -> list[Any]:
    """A setting as GPTQModel's `dynamic` has it for some layers."""
    dynamic = settings.get("dynamic")
    layers = dynamic.values() if isinstance(dynamic, Mapping) else ()
    return [layer[name] for layer in layers if isinstance(layer, Mapping) and name in layer]


def _list(numbers: tuple[int, ...]) -> str:
    return " or ".join(map(str, numbers))


def _check_groups(tensor: _Groups, zeros: tuple[int, int]) -> None:
    given = tensor.parts["qzeros"].shape
    if given != zeros:
        raise NotAModel(f"{tensor.key} has zeros {list(given)}, which {list(zeros)} would fit{AGAIN}")
    if tensor.parts["qweight"].dtype != torch.int32:
        raise NotAModel(f"{tensor.key}: its packed numbers are no words of 32 bits{AGAIN}")
    tensor.require_group()


def describe_gptq(settings: Mapping[str, Any]) -> str:
    """Such as "GPTQ with 4 bits in groups of 128"."""
    bits = _read_bits(settings)
    return f"GPTQ{f' with {_list(bits)} bits' if bits else ''}{_describe_group(settings)}"


def describe_awq(settings: Mapping[str, Any]) -> str:
    """Such as "AWQ with 4 bits in groups of 128"."""
    return f"AWQ with 4 bits{_describe_group(settings)}"


def _describe_group(settings: Mapping[str, Any]) -> str:
    sizes = _read_groups(settings)
    return ", a scale per output" if sizes == (-1,) else f" in groups of {_list(sizes)}"
