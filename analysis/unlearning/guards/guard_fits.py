"""Fitting of guards: boxes from probes; layers, α and margin chosen on validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Block
from analysis.errors import SkillError
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.probing import last_keys, probe
from analysis.skills.answering import NEW_TOKENS, answer_prompts
from analysis.skills.forms import select_fitting
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import COUNT, read_unrelated_probes, read_unrelated_queries
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, KeyBox, dense_block, dense_layers, fit_boxes
from analysis.unlearning.guards.key_checks import read_checked_keys
from analysis.unlearning.guards.key_guards import Check, KeyGuard, Rival
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
    probes: Mapping[str, Sequence[SkillItem]] | None = None,
    max_new_tokens: int = NEW_TOKENS,
    pulse: Pulse = lambda done, total: None,
) -> GuardFit:
    """Fit the boxes of the forget skill's probes; choose α, and the margin to rivals, on validation.

    layers: the last one (the paper's), all of them, some, or best: the last one, two, three …, chosen on
    validation. rivals: compare with the boxes of the retain skills that have enough probes, and of passages
    of the reference text; the paper does not. probes: other probes to fit on, by skill, for a control.
    max_new_tokens: of the answers that an each_step guard checks. Raises TooFewExamples, SkillError.
    """
    available = dense_layers(loaded)
    chosen = tuple(sorted(set(layers))) if not isinstance(layers, str) else ()
    every = tuple(sorted({*available, *chosen}))
    blocks = [dense_block(loaded, layer) for layer in every]
    if not blocks:
        dense_block(loaded, 0)
    fitted_on = probes or {split.skill: split.probe for split in scene.splits}
    own = _boxes(loaded, encode_queries(loaded, fitted_on[scene.forget.skill]), every, pulse)
    kept = {split.skill: fitted_on[split.skill] for split in scene.retain}
    against = _rivals(loaded, kept, every, pulse) if rivals and kept else ()
    whole = KeyGuard(own, 1.0, check_at, rivals=against)
    looks = {
        split.skill: _checks(loaded, split.validation, blocks, whole, max_new_tokens, pulse)
        for split in scene.splits
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
    )
    return GuardFit(guard, curves)


def _layer_sets(available: tuple[int, ...], chosen: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Each single layer, the last two, three …, and the requested ones; smaller sets first."""
    sets = {(layer,) for layer in available} | {available[i:] for i in range(len(available))}
    return sorted(sets | ({chosen} if chosen else set()), key=lambda s: (len(s), s))


def _boxes(
    loaded: LoadedModel, asked: Sequence[Sequence[int]], layers: Sequence[int], pulse: Pulse
) -> tuple[KeyBox, ...]:
    blocks = [dense_block(loaded, layer) for layer in layers]
    return fit_boxes(probe(loaded, asked, {"key": blocks}, pulse=pulse), layers)


def _rivals(
    loaded: LoadedModel, kept: Mapping[str, Sequence[SkillItem]], layers: Sequence[int], pulse: Pulse
) -> tuple[Rival, ...]:
    """The boxes of the retain skills and of unrelated text; a set with too few probes has none."""
    asked = {skill: encode_queries(loaded, probes) for skill, probes in kept.items()}
    found = {skill: ids for skill, ids in asked.items() if len(ids) >= FEWEST_PROBES}
    rivals = [Rival(skill, _boxes(loaded, ids, layers, pulse)) for skill, ids in found.items()]
    with suppress(SkillError):  # a tokenizer that encodes all of it alike allows no box
        rivals.append(Rival(UNRELATED, _boxes(loaded, read_unrelated_probes(loaded), layers, pulse)))
    return tuple(rivals)


def _within(boxes: Sequence[KeyBox], layers: Sequence[int]) -> tuple[KeyBox, ...]:
    return tuple(box for box in boxes if box.layer in layers)


def _checks(
    loaded: LoadedModel,
    items: Sequence[SkillItem],
    blocks: Sequence[Block],
    guard: KeyGuard,
    max_new_tokens: int,
    pulse: Pulse,
) -> Checks:
    """A guard's checks of some queries: the prompt's last token, with each_step also the answer's."""
    kept, asked, _ = select_fitting(loaded, items)
    if not asked:
        return Checks(torch.zeros(0, len(blocks), 1 + len(guard.rivals)), torch.zeros(0).long(), 0)
    fed = asked
    if guard.check_at == "each_step":
        stops = [item.stop for item in kept]
        found = answer_prompts(loaded, asked, stops=stops, max_new_tokens=max_new_tokens, pulse=pulse)
        fed = [[*ids, *answer.token_ids[:-1]] for ids, answer in zip(asked, found, strict=True)]
    query, keys = read_checked_keys(loaded, fed, [len(ids) for ids in asked], blocks, pulse=pulse)
    depths = guard.layer_depths([keys[block.address] for block in blocks])
    return Checks(depths, query, len(asked))


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
    blocks = [dense_block(loaded, box.layer) for box in guard.boxes]
    keys = last_keys(loaded, asked, blocks)
    return guard.depths([keys[block.address] for block in blocks])


def shuffle_probes(scene: Scene, seed: int) -> dict[str, list[SkillItem]]:
    """The control's probes: those of all skills shuffled, with the same number for each."""
    every = [item for split in scene.splits for item in split.probe]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = (every[i] for i in order)
    return {split.skill: list(islice(dealt, len(split.probe))) for split in scene.splits}
