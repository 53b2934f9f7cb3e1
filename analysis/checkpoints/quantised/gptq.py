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
    parameter (outputs, inputs). group: inputs of a group, −1 for all of them.
    """

    outputs_first = True
    group: int

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
        """(inputs,) int64: the group of each. Raises NotAModel where the groups are not those of the
        configuration.
        """
        if "g_idx" in self.parts:
            found = read_part(self.parts["g_idx"]).long()
            if found.shape != (self._inputs,) or not 0 <= int(found.min()) <= int(found.max()) < groups:
                raise NotAModel(f"the group indices of {self.key} do not fit its {groups} groups{AGAIN}")
            return found
        size = self._inputs if self.group == -1 else self.group
        if size < 1 or -(-self._inputs // size) != groups:
            raise NotAModel(
                f"{self.key} has {self._inputs} inputs in {groups} groups, but config.json says that a group "
                f"has {self.group}{AGAIN}"
            )
        return torch.arange(self._inputs) // size


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
    found = GptqTensor(key, parts, _read_group(settings), less)
    _check_groups(found, (found.parts["scales"].shape[0], found.parts["qzeros"].shape[1]))
    return found


def make_awq(key: str, parts: Mapping[str, Part], settings: Mapping[str, Any]) -> AwqTensor:
    """The same of an AWQ layer."""
    found = AwqTensor(key, parts, _read_group(settings))
    _check_groups(found, (found.parts["scales"].shape[0], parts["qweight"].shape[1]))
    if parts["qweight"].shape[1] * 8 != found.shape[0]:
        raise NotAModel(
            f"{key} has {parts['qweight'].shape[1]} words an input for {found.shape[0]} outputs{AGAIN}"
        )
    return found


def _read_group(settings: Mapping[str, Any]) -> int:
    size = settings.get("group_size", 128)
    if type(size) is not int or size == 0 or size < -1:
        raise NotAModel(f"config.json gives groups of {size!r} inputs, not a whole number or −1{AGAIN}")
    return size


def _check_groups(tensor: _Groups, zeros: tuple[int, int]) -> None:
    given = tensor.parts["qzeros"].shape
    if given != zeros:
        raise NotAModel(f"{tensor.key} has zeros {list(given)}, which {list(zeros)} would fit{AGAIN}")
    if tensor.parts["qweight"].dtype != torch.int32:
        raise NotAModel(f"{tensor.key}: its packed numbers are no words of 32 bits{AGAIN}")


def describe_gptq(settings: Mapping[str, Any]) -> str:
    """Such as "GPTQ with 4 bits in groups of 128"."""
    return f"GPTQ with {settings.get('bits', 4)} bits{_describe_group(settings)}"


def describe_awq(settings: Mapping[str, Any]) -> str:
    """Such as "AWQ with 4 bits in groups of 128"."""
    return f"AWQ with 4 bits{_describe_group(settings)}"


def _describe_group(settings: Mapping[str, Any]) -> str:
    size = _read_group(settings)
    return ", a scale per output" if size == -1 else f" in groups of {size}"
