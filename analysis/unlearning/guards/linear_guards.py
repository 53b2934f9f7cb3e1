"""Guards that abstain where a linear score of a query's keys says so: fitted, not bounded.

Headlamp's own; the paper's guard is a box (`key_guards.py`). The score is w · x + b over the keys x of some
layers, taken at one or two places of the prompt; above the threshold the model abstains. A box asks how far
a query is from a skill's probes in every neuron alike; a linear score is told what sets them apart from
everything to be kept, so that what a greeting or an instruction does to the keys weighs little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from analysis.anatomy.addresses import BlockAddress
from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError
from analysis.intervening.hooks import at_positions, site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.unlearning.guards.key_boxes import dense_block
from analysis.unlearning.guards.key_guards import REFUSAL, Check, KeyGuard
from analysis.unlearning.guards.key_places import KeyPlace, list_places, mark_places, read_keys, reduce_rows


@dataclass(frozen=True, eq=False)
class LinearGuard:
    """Abstains if the score of a prompt's keys is at least the threshold.

    weights (places, layers, m) float32 on the CPU: for each place of `key`, in order, and each layer. n:
    probes of the forget skill it was fitted on. against: the sets it was fitted to let pass.
    """

    layers: tuple[int, ...]
    weights: Tensor
    bias: float
    threshold: float
    n: int
    key: KeyPlace = "both"
    against: tuple[str, ...] = ()
    refusal: str = REFUSAL

    check_at: ClassVar[Check] = "prefill"

    def __post_init__(self) -> None:
        wanted = (len(list_places(self.key)), len(self.layers))
        if self.weights.dim() != 3 or tuple(self.weights.shape[:2]) != wanted or not self.layers:
            raise SkillError(
                f"a linear guard needs weights of {wanted[0]} places × {wanted[1]} layers × neurons, not "
                f"{tuple(self.weights.shape)}"
            )
        numbers = torch.tensor([self.bias, self.threshold])
        if not bool(torch.isfinite(self.weights).all()) or not bool(torch.isfinite(numbers).all()):
            raise SkillError("a linear guard's weights, bias and threshold must be finite numbers")

    def check(self, loaded: LoadedModel) -> None:
        """Raise SkillError if its weights do not have this model's width."""
        for layer in self.layers:
            block = dense_block(loaded, layer)
            if block.d_ff != self.weights.shape[-1]:
                raise SkillError(
                    f"the guard has {self.weights.shape[-1]} weights per layer, the model's keys in layer "
                    f"{layer} have {block.d_ff} dimensions; it belongs to another model"
                )

    def score(self, keys: Sequence[Sequence[Tensor]]) -> Tensor:
        """(n,) float64 scores of keys (n, m) by place and layer."""
        parts = [
            (own.double() @ weight.to(own.device).double())
            for at_place, weights in zip(keys, self.weights, strict=True)
            for own, weight in zip(at_place, weights, strict=True)
        ]
        return torch.stack([part.cpu() for part in parts]).sum(0) + self.bias

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching. Only reads keys; the step's reach records which rows abstain, and their refusal."""
        if step.reach.refusal is None:
            step.reach.refusal = self.refusal
        reading = _Reading(self, step, rows)
        for number, layer in enumerate(self.layers if len(reading.rows) else ()):
            block = dense_block(step.loaded, layer)
            module = step.loaded.model.get_submodule(site_module(block, "key"))
            yield module.register_forward_pre_hook(reading.hook(number, block))


Guard = KeyGuard | LinearGuard
"""The types of guards."""


class _Reading:
    """One forward step of a guard: the keys of the prompts that end in it, in the layers seen so far."""

    def __init__(self, guard: LinearGuard, step: ForwardStep, rows: Sequence[int] | None) -> None:
        self.guard, self.step = guard, step
        asked = step.in_rows(rows)
        self.marks = [
            torch.where(mark_places(step.loaded, place, step.positions, step.lengths) & asked)
            for place in list_places(guard.key)
        ]
        self.rows = self.marks[0][0].unique()
        self.keys: dict[int, list[Tensor]] = {}

    def hook(self, number: int, block: Block) -> Callable[..., None]:
        def read(module: nn.Module, args: tuple[Any, ...]) -> None:
            states = at_positions(args[0].contiguous(), self.step, block)
            self.keys[number] = [
                reduce_rows(rows, states[rows.to(states.device), columns.to(states.device)])[1]
                for rows, columns in self.marks
            ]
            if len(self.keys) == len(self.guard.layers):
                self._abstain()

        return read

    def _abstain(self) -> None:
        by_layer = [self.keys[number] for number in range(len(self.keys))]
        scores = self.guard.score(list(zip(*by_layer, strict=True)))
        out = self.rows.cpu()[scores >= self.guard.threshold].tolist()
        self.step.reach.abstained = sorted({*self.step.reach.abstained, *out})


def collect_linear_keys(
    loaded: LoadedModel,
    asked: Sequence[Sequence[int]],
    layers: Sequence[int],
    key: KeyPlace,
    pulse: Pulse = lambda done, total: None,
) -> Tensor:
    """(n, places, layers, m) float32 keys of queries (token ids) on the CPU. Raises SkillError."""
    blocks = [dense_block(loaded, layer) for layer in layers]
    if len({block.d_ff for block in blocks}) > 1:
        raise SkillError("the layers have keys of several widths; choose layers of one width")
    numbers = {BlockAddress(layer): number for number, layer in enumerate(layers)}
    places = list_places(key)
    found = torch.zeros(len(asked), len(places), len(layers), blocks[0].d_ff)

    def take(place: int, address: BlockAddress, which: Tensor, keys: Tensor) -> None:
        found[which, place, numbers[address]] = keys.cpu()

    if asked:
        read_keys(loaded, asked, blocks, places, take, pulse=pulse)
    return found
