"""Guards that abstain if a query's key is in a skill's boxes: the paper's, and one with rivals.

The paper (Li, Hsu and Weng 2025, arXiv 2503.21730; METHODS §4) takes one layer's box. Here a guard may hold
one box per layer: it abstains if a key is in all of them, so its depth is the largest of theirs.
A guard with *rivals*, the boxes of retain skills, also compares in whose boxes a query is deepest:

    abstain  ⇔  d ≤ α  and  d ≤ margin · min over rivals r of d_r

where d and d_r are geometric means over the layers of the depths in the guard's boxes and in the rival's. A
box alone is as wide as its skill's most unusual probe; a comparison is not. In place of boxes a guard may
hold Gaussians (`key_gaussians.py`), and take its keys elsewhere than at the last token (`key_places.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError
from analysis.intervening.hooks import at_positions, site_module
from analysis.intervening.steps import ForwardStep, Handle
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_boxes import SLACK, KeyBox, dense_block
from analysis.unlearning.guards.key_gaussians import Densities, KeyGaussian
from analysis.unlearning.guards.key_places import KeyPlace, list_places, mark_places, reduce_rows

REFUSAL = "Sorry, I do not know."
Check = Literal["prefill", "each_step"]
Measure = Literal["linear", "box", "gauss"]
KeySet = KeyBox | KeyGaussian
"""What is known of a set's keys in one layer."""


@dataclass(frozen=True, eq=False)
class Rival:
    """The boxes or Gaussians of a retain skill, in the same layers as the guard's own."""

    skill: str
    boxes: tuple[KeySet, ...]


def guard_depths(depths: Tensor, margin: float) -> Tensor:
    """(n,) the smallest α at which a guard abstains, from depths (n, layers, 1 + rivals), its own first.

    Infinite if a rival is nearer at this margin. Without rivals the largest over layers.
    """
    if depths.shape[-1] == 1:
        return depths[..., 0].amax(-1)
    own, rival = split_depths(depths)
    return torch.where(own <= margin * SLACK * rival, own, torch.inf)


def split_depths(depths: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) depth in the guard's boxes, and in those of the nearest rival: geometric means over layers."""
    means = depths.clamp(min=torch.finfo(torch.float32).tiny).log().mean(-2).exp()
    return means[..., 0], means[..., 1:].amin(-1)


class _Faces:
    """The boxes of one layer, prepared for repeated checks."""

    def __init__(self, boxes: Sequence[KeyBox]) -> None:
        self.mean = torch.stack([box.mean for box in boxes])[:, None]
        self.inverse = torch.stack([1 / (box.k * box.sigma.double()) for box in boxes]).float()[:, None]

    def depths(self, keys: Tensor) -> Tensor:
        """(n, boxes) as `KeyBox.depths`, of keys (n, m)."""
        if keys.device != self.mean.device:
            self.mean, self.inverse = self.mean.to(keys.device), self.inverse.to(keys.device)
        return (keys.float() - self.mean).abs_().mul_(self.inverse).amax(-1).T


@dataclass(frozen=True, eq=False)
class KeyGuard:
    """Abstains if a query's key is in the boxes at α and, with rivals, deeper than in theirs.

    check_at: at the prompt's last token, or also at each generated token. as_released: fitted as the authors'
    code does; their one flag serves a loop of one query at a time, so every query is judged alone here too.
    margin: > 0, see the module; used only with rivals. key: where the keys are taken; behind the prompt it is
    the last token always.
    """

    boxes: tuple[KeySet, ...]
    alpha: float
    check_at: Check = "prefill"
    refusal: str = REFUSAL
    as_released: bool = False
    rivals: tuple[Rival, ...] = ()
    margin: float = 1.0
    key: KeyPlace = "last"

    def __post_init__(self) -> None:
        if not self.boxes:
            raise SkillError("a guard needs at least one box")
        if not 0 < self.alpha < 1e6:
            raise SkillError(f"alpha {self.alpha}: choose a number above 0, such as 1")
        if not 0 < self.margin < 1e6:
            raise SkillError(f"margin {self.margin}: choose a number above 0, such as 1")
        if self.check_at not in ("prefill", "each_step"):
            raise SkillError(f"check {self.check_at!r} is unknown; choose prefill or each_step")
        if len(list_places(self.key)) > 1:
            raise SkillError(
                f"a guard of boxes takes one key, not {self.key}; choose last, user_last, user_mean"
            )
        if self.key != "last" and self.check_at == "each_step":
            raise SkillError(
                f"key {self.key} is of what was typed, each_step also of what is generated; choose key "
                "last, or prefill"
            )
        for rival in self.rivals:
            if [box.layer for box in rival.boxes] != [box.layer for box in self.boxes]:
                raise SkillError(f"the boxes of {rival.skill} are not in the guard's layers")
        if len({type(box) for boxes in self.by_layer for box in boxes}) > 1:
            raise SkillError("a guard holds boxes or Gaussians, not both")

    @property
    def measure(self) -> Measure:
        """Whether it holds boxes or Gaussians."""
        return "box" if isinstance(self.boxes[0], KeyBox) else "gauss"

    @cached_property
    def by_layer(self) -> tuple[tuple[KeySet, ...], ...]:
        """Per layer, its own box, then those of the rivals."""
        return tuple(zip(self.boxes, *(rival.boxes for rival in self.rivals), strict=True))

    def depths(self, keys: Sequence[Tensor]) -> Tensor:
        """(n,) the smallest α at which each query is refused; keys (n, m) of each box's layer, in order."""
        return guard_depths(self.layer_depths(keys), self.margin)

    def layer_depths(self, keys: Sequence[Tensor]) -> Tensor:
        """(n, layers, 1 + rivals) depths of keys (n, m) of each layer, the guard's own boxes first."""
        found = [faces.depths(own) for faces, own in zip(self._faces, keys, strict=True)]
        return torch.stack([depths.to(found[0].device) for depths in found], 1)

    def measure_layer(self, number: int, keys: Tensor) -> Tensor:
        """(n, 1 + rivals) depths of keys (n, m) in the sets of one of its layers, by number."""
        return self._faces[number].depths(keys)

    @cached_property
    def _faces(self) -> tuple[_Faces | Densities, ...]:
        kind: Any = _Faces if self.measure == "box" else Densities
        return tuple(kind(sets) for sets in self.by_layer)

    def check(self, loaded: LoadedModel) -> None:
        """Raise SkillError if a box does not have this model's width."""
        for boxes in self.by_layer:
            block = dense_block(loaded, boxes[0].layer)
            for box in boxes:
                if block.d_ff != len(box.mean):
                    raise SkillError(
                        f"the box of layer {box.layer} has {len(box.mean)} dimensions, the model's keys "
                        f"there {block.d_ff}; it belongs to another model"
                    )

    def attach(self, step: ForwardStep, rows: Sequence[int] | None) -> Iterator[Handle]:
        """See Attaching. Only reads keys; the step's reach records which rows abstain, and their refusal."""
        if step.reach.refusal is None:
            step.reach.refusal = self.refusal
        reading = _Reading(self, step, rows)
        for number, box in enumerate(self.boxes if reading.asked else ()):
            block = dense_block(step.loaded, box.layer)
            module = step.loaded.model.get_submodule(site_module(block, "key"))
            yield module.register_forward_pre_hook(reading.hook(number, block))


class _Reading:
    """One forward step of a guard: the checked positions, and their keys in the layers seen so far."""

    def __init__(self, guard: KeyGuard, step: ForwardStep, rows: Sequence[int] | None) -> None:
        self.guard, self.step = guard, step
        if guard.check_at == "prefill":
            asked = mark_places(step.loaded, guard.key, step.positions, step.lengths)
        else:
            asked = step.positions >= step.lengths[:, None] - 1
        self.place = torch.where(asked & step.in_rows(rows))
        self.row = self.place[0].unique() if guard.key == "user_mean" else self.place[0]
        self.asked = len(self.row) > 0
        self.keys: dict[int, Tensor] = {}

    def hook(self, number: int, block: Block) -> Callable[..., None]:
        def read(module: nn.Module, args: tuple[Any, ...]) -> None:
            states = at_positions(args[0].contiguous(), self.step, block)
            rows, columns = (index.to(states.device) for index in self.place)
            found = states[rows, columns]
            self.keys[number] = reduce_rows(rows, found)[1] if self.guard.key == "user_mean" else found
            if len(self.keys) == len(self.guard.boxes):
                self._abstain()

        return read

    def _abstain(self) -> None:
        depths = self.guard.depths([self.keys[number] for number in range(len(self.keys))])
        inside = (depths <= self.guard.alpha * SLACK).to(self.row.device)
        if not bool(inside.any()):
            return
        self.step.reach.abstained = sorted({*self.step.reach.abstained, *self.row[inside].tolist()})
