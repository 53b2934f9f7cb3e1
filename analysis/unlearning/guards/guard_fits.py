"""Guards fitted: boxes from probes, layers, α and margin chosen on validation as the guard will be used."""

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
from analysis.skills.answering import NEW_TOKENS, answers
from analysis.skills.items import SkillItem
from analysis.skills.tasks import fitting
from analysis.skills.unrelated import COUNT, unrelated_probes, unrelated_queries
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, KeyBox, dense_block, dense_layers, fit_boxes
from analysis.unlearning.guards.key_checks import checked_keys
from analysis.unlearning.guards.key_guards import Check, KeyGuard, Rival
from analysis.unlearning.guards.operating import (
    MOST_RETAIN,
    Checks,
    OperatingPoint,
    abstention,
    chosen_point,
    operating_curve,
    separation,
)
from analysis.unlearning.scenes import Scene, queries

LayerChoice = Literal["last", "best", "all"]


@dataclass(frozen=True, eq=False)
class LayerCurve:
    """What validation says of one set of layers: its curve, the point chosen, and how well it separates.

    separation: see `operating.separation`."""

    layers: tuple[int, ...]
    curve: tuple[OperatingPoint, ...]
    chosen: OperatingPoint
    separation: float


@dataclass(frozen=True, eq=False)
class GuardFit:
    """A guard with the curves of every layer alone, and of the last two, three … all together."""

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
    """The boxes of the forget skill's probes, with α, and the margin to rivals, chosen on validation.

    layers: the last one (the paper's), all of them, some, or best: the last one, two, three … as validation
    likes. rivals: where there are skills to be kept, compare with the boxes of those that have probes enough,
    and with that of pieces of the reference text; the paper does not. probes: others to fit on, by skill,
    for a control. max_new_tokens: of the answers that a guard of each step looks at. Raises TooFewExamples,
    SkillError.
    """
    available = dense_layers(loaded)
    chosen = tuple(sorted(set(layers))) if not isinstance(layers, str) else ()
    every = tuple(sorted({*available, *chosen}))
    blocks = [dense_block(loaded, layer) for layer in every]
    if not blocks:
        dense_block(loaded, 0)
    fitted_on = probes or {split.skill: split.probe for split in scene.splits}
    own = _boxes(loaded, queries(loaded, fitted_on[scene.forget.skill]), every, pulse)
    kept = {split.skill: fitted_on[split.skill] for split in scene.retain}
    against = _rivals(loaded, kept, every, pulse) if rivals and kept else ()
    whole = KeyGuard(own, 1.0, check_at, rivals=against)
    looks = {
        split.skill: _checks(loaded, split.validation, blocks, whole, max_new_tokens, pulse)
        for split in scene.splits
    }
    curves = tuple(_layer_curve(scene, looks, every, tried) for tried in _layer_sets(available, chosen))
    wanted = chosen or _wanted_layers(curves, available, layers)
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
    """Each layer alone, the last two, three …, and those that were asked for; the smaller sets first."""
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
    """The boxes of the skills to be kept, and of text of no skill; one with too few probes has none."""
    asked = {skill: queries(loaded, probes) for skill, probes in kept.items()}
    found = {skill: ids for skill, ids in asked.items() if len(ids) >= FEWEST_PROBES}
    rivals = [Rival(skill, _boxes(loaded, ids, layers, pulse)) for skill, ids in found.items()]
    with suppress(SkillError):  # a tokenizer that reads all of it alike has no box of it
        rivals.append(Rival(UNRELATED, _boxes(loaded, unrelated_probes(loaded), layers, pulse)))
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
    """What the guard would see of some queries: the prompt's last token, at each step the answer's too."""
    kept, asked, _ = fitting(loaded, items)
    if not asked:
        return Checks(torch.zeros(0, len(blocks), 1 + len(guard.rivals)), torch.zeros(0).long(), 0)
    fed = asked
    if guard.check_at == "each_step":
        stops = [item.stop for item in kept]
        found = answers(loaded, asked, stops=stops, max_new_tokens=max_new_tokens, pulse=pulse)
        fed = [[*ids, *answer.token_ids[:-1]] for ids, answer in zip(asked, found, strict=True)]
    query, keys = checked_keys(loaded, fed, [len(ids) for ids in asked], blocks, pulse=pulse)
    depths = guard.layer_depths([keys[block.address] for block in blocks])
    return Checks(depths, query, len(asked))


def _layer_curve(
    scene: Scene, looks: Mapping[str, Checks], every: Sequence[int], layers: tuple[int, ...]
) -> LayerCurve:
    places = [every.index(layer) for layer in layers]
    kept = {name: checks.layers(places) for name, checks in looks.items()}
    forget = kept.pop(scene.forget.skill)
    curve = operating_curve(forget, kept)
    chosen = chosen_point(curve, bounded=any(checks.count for checks in kept.values()))
    return LayerCurve(layers, tuple(curve), chosen, separation(forget, kept))


def _wanted_layers(
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


def guard_curve(
    loaded: LoadedModel, guard: KeyGuard, sets: Mapping[str, Sequence[SkillItem]]
) -> dict[str, list[float]]:
    """Abstention over ALPHAS of each set of queries, at the prompt's last token and the guard's margin."""
    return {
        name: abstention(query_depths(loaded, guard, queries(loaded, items)))
        for name, items in sets.items()
        if items
    }


def unrelated_depths(loaded: LoadedModel, guard: KeyGuard) -> Tensor:
    """(n,) the smallest α at which a guard refuses each of some pieces of text of no skill."""
    return query_depths(loaded, guard, [ids for _, ids in unrelated_queries(loaded, COUNT)])


def query_depths(loaded: LoadedModel, guard: KeyGuard, asked: Sequence[Sequence[int]]) -> Tensor:
    """(n,) the smallest α at which a guard refuses each query (token ids), at its last token."""
    blocks = [dense_block(loaded, box.layer) for box in guard.boxes]
    keys = last_keys(loaded, asked, blocks)
    return guard.depths([keys[block.address] for block in blocks])


def shuffled_probes(scene: Scene, seed: int) -> dict[str, list[SkillItem]]:
    """The control's probes: those of all skills dealt out anew, as many to each."""
    every = [item for split in scene.splits for item in split.probe]
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = (every[i] for i in order)
    return {split.skill: list(islice(dealt, len(split.probe))) for split in scene.splits}
