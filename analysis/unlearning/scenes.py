"""Forget one skill, keep the others: fitted on probes, set on validation, measured once on the test.

A *scene* is one skill's split to forget and others' to keep. Each method gives candidates (a layer and α of a
guard, a share q of neurons); validation chooses one; only that one meets the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from analysis.addresses import BlockAddress
from analysis.errors import SkillError
from analysis.models import LoadedModel
from analysis.probing import last_keys, probe
from analysis.skills.answering import Pulse
from analysis.skills.items import SkillItem
from analysis.skills.splits import Split, shared_prompts
from analysis.tasks import Form, fitting
from analysis.unlearning.key_boxes import (
    Check,
    KeyBox,
    KeyGuard,
    dense_block,
    dense_layers,
    fit_boxes,
    joint_depths,
)
from analysis.unlearning.operating import OperatingPoint, abstention, chosen_point, operating_curve, shuffled

METHOD_VERSION = "1"
Method = Literal["ksd", "na", "sp"]
METHODS: tuple[Method, ...] = ("ksd", "na", "sp")
LayerChoice = Literal["last", "best", "all"]


@dataclass(frozen=True)
class Scene:
    """One skill to forget and others to keep. Raises SkillError where one of these is the other."""

    forget: Split
    retain: tuple[Split, ...]

    def __post_init__(self) -> None:
        names = [self.forget.skill, *(split.skill for split in self.retain)]
        if len(set(names)) < len(names):
            raise SkillError(f"two skills have one name among {', '.join(names)}; name each differently")
        mine = [*self.forget.probe, *self.forget.validation, *self.forget.test]
        for split in self.retain:
            both = shared_prompts(mine, [*split.probe, *split.validation, *split.test])
            if both:
                raise SkillError(
                    f"{len(both)} prompts of {self.forget.skill}, {both[0][:60]!r} first, are in "
                    f"{split.skill} too, which is to be kept; take them out of one of the two"
                )

    @property
    def splits(self) -> tuple[Split, ...]:
        """The skill to forget first."""
        return (self.forget, *self.retain)


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """Abstention over α on validation for one set of layers, and the point chosen on it."""

    layers: tuple[int, ...]
    curve: tuple[OperatingPoint, ...]
    chosen: OperatingPoint


@dataclass(frozen=True, eq=False)
class GuardFit:
    """A guard with the curves of every layer alone and of all together."""

    guard: KeyGuard
    curves: tuple[LayerCurve, ...]

    @property
    def chosen(self) -> LayerCurve:
        """The curve of the guard's own layers."""
        layers = tuple(box.layer for box in self.guard.boxes)
        return next(curve for curve in self.curves if curve.layers == layers)


def queries(loaded: LoadedModel, items: Sequence[SkillItem], form: Form | None = None) -> list[list[int]]:
    """Token ids of the prompts that fit into the context."""
    return fitting(loaded, items, form)[1]


def fit_guard(
    loaded: LoadedModel,
    scene: Scene,
    *,
    layers: LayerChoice | Sequence[int] = "last",
    check_at: Check = "prefill",
    as_released: bool = False,
    probes: Sequence[SkillItem] | None = None,
    pulse: Pulse = lambda done, total: None,
) -> GuardFit:
    """The boxes of the forget skill's probes, with α chosen on validation.

    layers: the last one (the paper's), the one that validation likes best, all of them (a query is refused
    where every box holds it), or some. probes: other examples to fit on, for a control. Raises
    TooFewExamples, SkillError.
    """
    available = dense_layers(loaded)
    chosen = tuple(layers) if not isinstance(layers, str) else ()
    every = sorted({*available, *chosen})
    blocks = [dense_block(loaded, layer) for layer in every]
    if not blocks:
        dense_block(loaded, 0)
    given = queries(loaded, scene.forget.probe if probes is None else probes)
    boxes = fit_boxes(probe(loaded, given, {"key": blocks}, pulse=pulse), every)
    by_layer = {box.layer: box for box in boxes}
    keys = {split.skill: _validation_keys(loaded, split, by_layer, pulse) for split in scene.splits}
    sets = {(layer,) for layer in available} | {available} | ({chosen} if chosen else set())
    curves = tuple(
        _layer_curve(scene, by_layer, keys, own) for own in sorted(sets, key=lambda s: (len(s), s))
    )
    wanted = chosen or _wanted_layers(curves, available, layers)
    best = next(curve for curve in curves if curve.layers == wanted)
    guard = KeyGuard(
        tuple(by_layer[layer] for layer in wanted), best.chosen.alpha, check_at, as_released=as_released
    )
    return GuardFit(guard, curves)


def _validation_keys(
    loaded: LoadedModel, split: Split, boxes: Mapping[int, KeyBox], pulse: Pulse
) -> dict[BlockAddress, Tensor]:
    blocks = [dense_block(loaded, layer) for layer in boxes]
    return last_keys(loaded, queries(loaded, split.validation), blocks, pulse=pulse)


def _layer_curve(
    scene: Scene,
    boxes: Mapping[int, KeyBox],
    keys: Mapping[str, Mapping[BlockAddress, Tensor]],
    layers: tuple[int, ...],
) -> LayerCurve:
    own = [boxes[layer] for layer in layers]
    depths = {name: joint_depths(own, found) for name, found in keys.items()}
    forget = depths.pop(scene.forget.skill)
    curve = operating_curve(forget, depths)
    return LayerCurve(layers, tuple(curve), chosen_point(curve))


def _wanted_layers(
    curves: Sequence[LayerCurve], available: tuple[int, ...], choice: str | Sequence[int]
) -> tuple[int, ...]:
    if choice == "all":
        return available
    if choice == "best":
        alone = [curve for curve in curves if len(curve.layers) == 1]
        return max(alone, key=lambda c: (c.chosen.forget - c.chosen.worst_retain, c.layers)).layers
    if choice != "last":
        raise SkillError(f"layers {choice!r}: choose last, best, all, or numbers such as 1,3")
    return available[-1:]


def guard_curve(
    loaded: LoadedModel, guard: KeyGuard, sets: Mapping[str, Sequence[SkillItem]]
) -> dict[str, list[float]]:
    """Abstention over ALPHAS of each set of queries, at the prompt's last token."""
    blocks = [dense_block(loaded, box.layer) for box in guard.boxes]
    return {
        name: abstention(joint_depths(guard.boxes, last_keys(loaded, queries(loaded, items), blocks)))
        for name, items in sets.items()
        if items
    }


def shuffled_probes(scene: Scene, seed: int) -> list[SkillItem]:
    """The control's probes: as many as the forget skill has, drawn from all skills alike."""
    splits = scene.splits
    drawn = shuffled([len(s.probe) for s in splits], len(scene.forget.probe), seed)
    return [splits[which].probe[index] for which, index in drawn]
