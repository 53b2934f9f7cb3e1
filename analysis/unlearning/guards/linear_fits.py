"""Fitting of linear guards: ridge regression of "to be forgotten" on keys, its threshold set on validation.

    minimise over w, b   Σ_i c_i (w · x_i + b − y_i)²  +  λ ‖w‖²       y = +1 forget, −1 to be kept

Keys are standardised by the probes' own mean and deviation. The weights c give the forget skill half, and
every set to be kept an equal part of the other half, whatever their sizes. Solved in the dual: one equation
per probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.errors import SkillError, TooFewExamples
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.skills.general import NAME as GENERAL
from analysis.skills.general import select_general_questions
from analysis.skills.items import SkillItem
from analysis.skills.unrelated import NAME as UNRELATED
from analysis.skills.unrelated import read_unrelated_probes
from analysis.unlearning.guards.key_boxes import FEWEST_PROBES, dense_block, dense_layers
from analysis.unlearning.guards.key_fits import encode_probes
from analysis.unlearning.guards.key_places import KeyPlace
from analysis.unlearning.guards.linear_guards import LinearGuard, collect_linear_keys
from analysis.unlearning.scenes import Scene

DEPTHS = 2 / 3, 3 / 4, 4 / 5
"""Where in the model `best` takes its layers: of six windows tried on SmolLM2 these held in most forms."""

RIDGE = 0.1
FLOOR = 1e-3
"""Smallest deviation, × the median over all neurons."""

THRESHOLDS = tuple(round(-1 + 0.04 * i, 2) for i in range(51))
"""Scores at which a guard's curve is drawn: it is fitted to give −1 to what is kept, 1 to what is
forgotten.
"""

MOST_FITTED = 240
"""Queries of each set that are fitted on, evenly spaced over plain and wrapped ones."""

MOST_RETAIN, MOST_MISSED = 0.02, 0.05
"""The threshold lies halfway between what so small a share of any kept set's validation reaches, and what
all but so small a share of the forget skill's does; where these overlap, at the first.
"""


@dataclass(frozen=True)
class LinearFit:
    """A guard; the shares of validation it refuses, of the forget skill and the largest of a kept set; and
    (threshold, both shares) over THRESHOLDS.
    """

    guard: LinearGuard
    forget: float
    worst_retain: float
    curve: tuple[tuple[float, float, float], ...]


def fit_linear_guard(
    loaded: LoadedModel,
    scene: Scene,
    *,
    layers: str | Sequence[int] = "best",
    key: KeyPlace = "both",
    wrap: bool = True,
    probes: Mapping[str, Sequence[SkillItem]] | None = None,
    pulse: Pulse = lambda done, total: None,
) -> LinearFit:
    """Fit on the scene's probes; passages of the reference text and general questions are kept sets too.

    layers: best (three around three quarters of the model's depth), last, all, or some. probes: other probes
    to fit on, by skill, for a control. Raises TooFewExamples under 30 probes of the forget skill, or where
    nothing is to be kept.
    """
    chosen = choose_layers(loaded, layers)
    splits = (*scene.splits, *scene.near)
    fitted_on = probes or {split.skill: split.probe for split in splits}
    asked = {
        name: _thin(encode_probes(loaded, items, wrap=wrap)) for name, items in fitted_on.items() if items
    }
    if len(splits) < 2:
        raise TooFewExamples(
            "a linear guard is fitted to tell a skill from others: give at least one to retain, or "
            "choose the measure box"
        )
    if len(fitted_on[scene.forget.skill]) < FEWEST_PROBES:
        raise TooFewExamples(
            f"{len(fitted_on[scene.forget.skill])} probes of {scene.forget.skill}: a guard needs at least "
            f"{FEWEST_PROBES}; give more examples, or a larger share of them as probes"
        )
    general = select_general_questions(scene.list_items())
    asked[GENERAL] = _thin(encode_probes(loaded, general, wrap=wrap)) if general else []
    asked[UNRELATED] = read_unrelated_probes(loaded)
    keys = {name: collect_linear_keys(loaded, ids, chosen, key, pulse) for name, ids in asked.items() if ids}
    own = keys.pop(scene.forget.skill)
    weights, bias = _solve(own, list(keys.values()))
    guard = LinearGuard(chosen, weights, bias, 0.0, len(own), key, tuple(keys))
    scores = {
        split.skill: _score_validation(loaded, split.validation, guard, wrap, pulse) for split in splits
    }
    return _set_threshold(guard, scores.pop(scene.forget.skill), list(scores.values()))


def choose_layers(loaded: LoadedModel, layers: str | Sequence[int]) -> tuple[int, ...]:
    """The layers of a choice. Raises SkillError for one that does not exist."""
    available = dense_layers(loaded)
    if not available:
        dense_block(loaded, 0)
    if not isinstance(layers, str):
        for layer in layers:
            dense_block(loaded, layer)
        return tuple(sorted(set(layers)))
    if layers == "best":
        return tuple(sorted({available[int(depth * len(available))] for depth in DEPTHS}))
    if layers not in ("last", "all"):
        raise SkillError(f"layers {layers!r}: choose last, best, all, or numbers such as 1,3")
    return available if layers == "all" else available[-1:]


def _thin(asked: Sequence[list[int]]) -> list[list[int]]:
    step = max(1.0, len(asked) / MOST_FITTED)
    return [asked[int(i * step)] for i in range(min(len(asked), MOST_FITTED))]


def _score_validation(
    loaded: LoadedModel, items: Sequence[SkillItem], guard: LinearGuard, wrap: bool, pulse: Pulse
) -> Tensor:
    asked = _thin(encode_probes(loaded, items, wrap=wrap)) if items else []
    return score_queries(loaded, asked, guard, pulse)


def score_queries(
    loaded: LoadedModel,
    asked: Sequence[Sequence[int]],
    guard: LinearGuard,
    pulse: Pulse = lambda done, total: None,
) -> Tensor:
    """(n,) float64 scores of queries (token ids)."""
    keys = collect_linear_keys(loaded, asked, guard.layers, guard.key, pulse)
    return guard.score([list(at_place.unbind(1)) for at_place in keys.unbind(1)])


def _solve(own: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, float]:
    """Weights (places, layers, m) and bias on raw keys; own (n, places, layers, m), kept likewise."""
    shape = own.shape[1:]
    every = torch.cat([own, *kept]).flatten(1)
    mean, deviation = every.mean(0), every.std(0)
    if not float(deviation.max()) > 0:
        raise SkillError("all probes have the same keys; give more varied ones")
    deviation = deviation.clamp(min=FLOOR * float(deviation.median()) or FLOOR)
    z = (every - mean) / deviation
    share = [1 / len(own)] * len(own) + [1 / len(kept) / len(one) for one in kept for _ in one]
    wanted = torch.tensor([1.0] * len(own) + [-1.0] * (len(every) - len(own)), dtype=torch.float64)
    width = z.shape[1]
    gram = (z @ z.T).double() / width + 1
    ridge = RIDGE * torch.diag(2 / (torch.tensor(share, dtype=torch.float64) * len(every)))
    dual = torch.linalg.solve(gram + ridge, wanted)
    weights = (z.T.double() @ dual / width) / deviation.double()
    bias = float(dual.sum() - weights @ mean.double())
    return weights.float().reshape(shape), bias


def _set_threshold(guard: LinearGuard, forget: Tensor, kept: Sequence[Tensor]) -> LinearFit:
    if not len(forget):
        raise TooFewExamples("no validation example of the forget skill; give more examples")
    low = max((float(one.quantile(1 - MOST_RETAIN)) for one in kept if len(one)), default=float(forget.min()))
    high = float(forget.quantile(MOST_MISSED))
    threshold = (low + high) / 2 if high > low else low
    forgot, worst = _measure_point(threshold, forget, kept)
    curve = tuple((point, *_measure_point(point, forget, kept)) for point in THRESHOLDS)
    return LinearFit(replace(guard, threshold=threshold), forgot, worst, curve)


def _measure_point(threshold: float, forget: Tensor, kept: Sequence[Tensor]) -> tuple[float, float]:
    """The share refused of the forget skill, and the largest of a kept set."""
    shares = [float((one >= threshold).double().mean()) for one in (forget, *kept) if len(one)]
    return shares[0], max(shares[1:], default=0.0)
