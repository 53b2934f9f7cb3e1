"""Fitting of guards: boxes from probes; layers, α and margin chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.answering import NEW_TOKENS
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import COUNT, read_unrelated_probes, read_unrelated_queries
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, dense_block, dense_layers
from analysis.unlearning.guards.key_fits import (
    encode_probes,
    fit_key_sets,
    measure_answer_checks,
    measure_checks,
)
from analysis.unlearning.guards.key_guards import Check, KeyGuard, KeySet, Measure, Rival
from analysis.unlearning.guards.key_places import KeyPlace
from analysis.unlearning.guards.operating import (
    MOST_RETAIN,
    Checks,
    OperatingPoint,
    choose_point,
    measure_abstention,
    measure_separation,
    trace_operating_curve,
)
from analysis.unlearning.scenes import Scene, encode_queries

LayerChoice = Literal["last", "best", "all"]


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """Validation results of one set of layers: curve, chosen point and separation (see
    `operating.measure_separation`).

    separation: see `operating.measure_separation`."""

    layers: tuple[int, ...]
    curve: tuple[OperatingPoint, ...]
    chosen: OperatingPoint
    separation: float


@dataclass(frozen=True, eq=False)
class GuardFit:
    """A guard with the curves of every single layer, and of the last two, three … together."""

    guard: KeyGuard
    curves: tuple[LayerCurve, ...]

    @property
    def chosen(self) -> LayerCurve:
        """The curve of the guard's own layers."""
        layers = tuple(box.layer for box in self.guard.boxes)
        return next(curve for curve in self.curves if curve.layers == layers)


def fit_guard(
    loaded: LoadedModel,
    scene: Scene,
    *,
    layers: LayerChoice | Sequence[int] = "best",
    rivals: bool = True,
    check_at: Check = "prefill",
    as_released: bool = False,
    measure: Measure = "box",
    key: KeyPlace = "last",
    wrap: bool = False,
    probes: Mapping[str, Sequence[SkillItem]] | None = None,
    max_new_tokens: int = NEW_TOKENS,
    pulse: Pulse = lambda done, total: None,
) -> GuardFit:
    """Fit the boxes of the forget skill's probes; choose α, and the margin to rivals, on validation.

    layers: the last one (the paper's), all of them, some, or best: the last one, two, three …, chosen on
    validation. rivals: compare with the boxes of the retain skills and near questions that have enough
    probes, and of passages of the reference text; the paper does not. measure: boxes, or Gaussians, which
    need rivals. key: where the keys are taken. wrap: put the probes of all sets, and validation, in several
    ways (`wrapping.py`). probes: other probes to fit on, by skill, for a control. max_new_tokens: of the
    answers that an each_step guard checks. Raises TooFewExamples, SkillError.
    """
    available = dense_layers(loaded)
    chosen = tuple(sorted(set(layers))) if not isinstance(layers, str) else ()
    every = tuple(sorted({*available, *chosen}))
    if not every:
        dense_block(loaded, 0)
    fitted_on = probes or {split.skill: split.probe for split in (*scene.splits, *scene.near)}
    how = _Ways(loaded, every, measure, key, wrap, pulse)
    own = how.fit(fitted_on[scene.forget.skill])
    kept = {split.skill: fitted_on[split.skill] for split in (*scene.retain, *scene.near)}
    against = _rivals(how, kept) if rivals and kept else ()
    if measure == "gauss" and not against:
        raise SkillError(
            "Gaussians compare the forget skill with others: give at least one to retain with enough probes, "
            "or choose the measure box"
        )
    whole = KeyGuard(own, 1.0, check_at, rivals=against, key=key)
    looks = {
        split.skill: how.check(split.validation, whole, max_new_tokens)
        for split in (*scene.splits, *scene.near)
    }
    curves = tuple(_layer_curve(scene, looks, every, tried) for tried in _layer_sets(available, chosen))
    wanted = chosen or _parse_layer_choice(curves, available, layers)
    point = next(curve for curve in curves if curve.layers == wanted).chosen
    guard = KeyGuard(
        _within(own, wanted),
        point.alpha,
        check_at,
        as_released=as_released,
        rivals=tuple(Rival(rival.skill, _within(rival.boxes, wanted)) for rival in against),
        margin=1.0 if point.margin is None else point.margin,
        key=key,
    )
    return GuardFit(guard, curves)


@dataclass(frozen=True)
class _Ways:
    """How the sets of one fit are read."""

    loaded: LoadedModel
    layers: tuple[int, ...]
    measure: Measure
    key: KeyPlace
    wrap: bool
    pulse: Pulse

    def fit(self, probes: Sequence[SkillItem]) -> tuple[KeySet, ...]:
        """The boxes or Gaussians of a set's probes."""
        return self.fit_ids(encode_probes(self.loaded, probes, wrap=self.wrap))

    def fit_ids(self, asked: Sequence[Sequence[int]]) -> tuple[KeySet, ...]:
        """The same of queries given as token ids."""
        return fit_key_sets(self.loaded, asked, self.layers, self.measure, self.key, self.pulse)

    def check(self, items: Sequence[SkillItem], guard: KeyGuard, max_new_tokens: int) -> Checks:
        """A guard's checks of a set's validation."""
        if guard.check_at == "each_step" and items:
            return measure_answer_checks(self.loaded, items, guard, max_new_tokens, self.pulse)
        asked = encode_probes(self.loaded, items, wrap=self.wrap) if items else []
        return measure_checks(self.loaded, asked, guard, self.pulse)


def _layer_sets(available: tuple[int, ...], chosen: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Each single layer, the last two, three …, and the requested ones; smaller sets first."""
    sets = {(layer,) for layer in available} | {available[i:] for i in range(len(available))}
    return sorted(sets | ({chosen} if chosen else set()), key=lambda s: (len(s), s))


def _rivals(how: _Ways, kept: Mapping[str, Sequence[SkillItem]]) -> tuple[Rival, ...]:
    """The boxes of the retain skills and of unrelated text; a set with too few probes has none."""
    rivals = [Rival(skill, how.fit(probes)) for skill, probes in kept.items() if len(probes) >= FEWEST_PROBES]
    with suppress(SkillError):  # a tokenizer that encodes all of it alike allows no box
        rivals.append(Rival(UNRELATED, how.fit_ids(read_unrelated_probes(how.loaded))))
    return tuple(rivals)


def _within(sets: Sequence[KeySet], layers: Sequence[int]) -> tuple[KeySet, ...]:
    return tuple(one for one in sets if one.layer in layers)


def _layer_curve(
    scene: Scene, looks: Mapping[str, Checks], every: Sequence[int], layers: tuple[int, ...]
) -> LayerCurve:
    places = [every.index(layer) for layer in layers]
    kept = {name: checks.layers(places) for name, checks in looks.items()}
    forget = kept.pop(scene.forget.skill)
    curve = trace_operating_curve(forget, kept)
    chosen = choose_point(curve, bounded=any(checks.count for checks in kept.values()))
    return LayerCurve(layers, tuple(curve), chosen, measure_separation(forget, kept))


def _parse_layer_choice(
    curves: Sequence[LayerCurve], available: tuple[int, ...], choice: str | Sequence[int]
) -> tuple[int, ...]:
    if choice == "all":
        return available
    if choice == "best":
        return max((c for c in curves if c.layers == available[-len(c.layers) :]), key=_merit).layers
    if choice != "last":
        raise SkillError(f"layers {choice!r}: choose last, best, all, or numbers such as 1,3")
    return available[-1:]


def _merit(curve: LayerCurve) -> tuple[bool, float, float, int]:
    point = curve.chosen
    return point.worst_retain <= MOST_RETAIN, point.forget, curve.separation, -len(curve.layers)


def measure_guard_curve(
    loaded: LoadedModel, guard: KeyGuard, sets: Mapping[str, Sequence[SkillItem]]
) -> dict[str, list[float]]:
    """Abstention over ALPHAS of each set of queries, at the prompt's last token and the guard's margin."""
    return {
        name: measure_abstention(measure_query_depths(loaded, guard, encode_queries(loaded, items)))
        for name, items in sets.items()
        if items
    }


def measure_unrelated_depths(loaded: LoadedModel, guard: KeyGuard) -> Tensor:
    """(n,) the smallest α at which a guard refuses each passage of unrelated text."""
    return measure_query_depths(loaded, guard, [ids for _, ids in read_unrelated_queries(loaded, COUNT)])


def measure_query_depths(loaded: LoadedModel, guard: KeyGuard, asked: Sequence[Sequence[int]]) -> Tensor:
    """(n,) the smallest α at which a guard refuses each query (token ids), at its last token."""
    return measure_checks(loaded, asked, guard).least(guard.margin)


def shuffle_probes(scene: Scene, seed: int) -> dict[str, list[SkillItem]]:
    """The control's probes: those of all skills shuffled, with the same number for each."""
    every = [item for split in (*scene.splits, *scene.near) for item in split.probe]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = (every[i] for i in order)
    return {split.skill: list(islice(dealt, len(split.probe))) for split in (*scene.splits, *scene.near)}
