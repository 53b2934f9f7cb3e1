"""Metrics with intervals from judged answers before and after (METHODS §4, Evaluation).

Intervals are 95 %: a bootstrap over groups, paired by example, so that wordings of one fact count once; at 0
of n and n of n, where a bootstrap has no width, Wilson's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.skills.tasks import MeasuredItems

DRAWS = 2000
Z = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""

Interval = tuple[float, float]
_Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Change:
    """One skill before and after. before, after: accuracy in [0, 1]; of a perplexity skill None.

    relative_drop: 1 − after/before; None, with a warning, if `before` is not above chance + 2 standard
    errors. corrected_drop: the same for the part above chance. perplexity_ratio: after/before, of a
    perplexity skill, over what was not refused. abstained: share of examples a guard refused.
    """

    n: int
    chance: float
    before: float | None
    after: float | None
    before_interval: Interval | None
    after_interval: Interval | None
    relative_drop: float | None
    interval: Interval | None
    corrected_drop: float | None
    abstained: float
    perplexity_ratio: float | None
    warning: str = ""


def measure_change(before: MeasuredItems, after: MeasuredItems, seed: int = 0) -> Change:
    """The effect of an intervention on a skill; before and after must cover the same examples."""
    if before.items != after.items:
        raise ValueError("before and after are not of the same examples")
    n = len(before.items)
    abstained = sum(v.abstained for v in after.verdicts) / n if n else 0.0
    judged = [i for i, item in enumerate(before.items) if item.judge != "perplexity"]
    ratio = _perplexity_ratio(before, after)
    if not judged:
        return Change(n, 0.0, None, None, None, None, None, None, None, abstained, ratio)
    right = np.array([[m.verdicts[i].right for i in judged] for m in (before, after)], dtype=float)
    groups = [before.items[i].group for i in judged]
    chance = float(np.mean([before.items[i].chance for i in judged]))
    draws = _draw_accuracies(right, groups, seed)
    was, now = (float(x) for x in right.mean(1))
    error = math.sqrt(was * (1 - was) / len(judged))
    above = was > chance + 2 * error
    warning = (
        "" if above else f"accuracy {was:.3f} before is not above chance ({chance:.3f}) by 2 standard errors"
    )
    return Change(
        n=n,
        chance=chance,
        before=was,
        after=now,
        before_interval=_interval(was, len(judged), draws[0]),
        after_interval=_interval(now, len(judged), draws[1]),
        relative_drop=1 - now / was if above else None,
        interval=_drop_interval(was, now, len(judged), draws) if above else None,
        corrected_drop=1 - (now - chance) / (was - chance) if above else None,
        abstained=abstained,
        perplexity_ratio=ratio,
        warning=warning,
    )


def measure_damage(change: Change) -> float | None:
    """The loss of a skill, at most 1: its relative drop; for a perplexity skill 1 − 1 / perplexity ratio, the
    share of a token's probability that is lost. None if neither is defined.
    """
    if change.before is not None:
        return change.relative_drop
    if change.perplexity_ratio is None:
        return 1.0 if change.n and change.abstained == 1 else None
    return 1 - 1 / change.perplexity_ratio


def wilson_interval(right: float, n: int) -> Interval:
    """Wilson's 95 % interval of a share in [0, 1] of n; (0, 1) if n is 0."""
    if not n:
        return 0.0, 1.0
    middle = (right + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * math.sqrt(right * (1 - right) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _draw_accuracies(right: _Floats, groups: Sequence[str], seed: int) -> _Floats:
    """(2, DRAWS) accuracies before and after; groups drawn with replacement, the same draw for both."""
    names = sorted(set(groups))
    place = {name: i for i, name in enumerate(names)}
    sums, sizes = np.zeros((2, len(names))), np.zeros(len(names))
    for column, group in enumerate(groups):
        sums[:, place[group]] += right[:, column]
        sizes[place[group]] += 1
    drawn = np.random.default_rng(seed).integers(0, len(names), (DRAWS, len(names)))
    return np.asarray(sums[:, drawn].sum(-1) / sizes[drawn].sum(-1))


def _interval(value: float, n: int, draws: _Floats) -> Interval:
    if value in (0.0, 1.0):
        return wilson_interval(value, n)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _drop_interval(was: float, now: float, n: int, draws: _Floats) -> Interval:
    if now == 0:  # every draw drops all of it: use the width of the accuracy after
        return 1 - wilson_interval(0.0, n)[1] / was, 1.0
    kept = draws[:, draws[0] > 0]
    low, high = np.percentile(1 - kept[1] / kept[0], [2.5, 97.5])
    if low == high:  # no draw changes anything: use the width of one example more or less
        return -wilson_interval(0.0, n)[1], wilson_interval(0.0, n)[1]
    return float(low), float(high)


def _perplexity_ratio(before: MeasuredItems, after: MeasuredItems) -> float | None:
    """exp of the mean increase of −log p per token, over examples that were not refused."""
    pairs = [
        (b, a) for b, a in zip(before.verdicts, after.verdicts, strict=True) if b.tokens and not a.abstained
    ]
    if not pairs:
        return None
    tokens = sum(b.tokens for b, _ in pairs)
    rise = sum(b.log_probability - a.log_probability for b, a in pairs) / tokens
    return math.exp(min(rise, 700.0))


@dataclass(frozen=True)
class Divergence:
    """Of next-token distributions, changed from base. kl (nats): median and mean KL(base ‖ changed) over the
    n prompts that were answered, None where there is none. js: mean Jensen–Shannon over all, in [0, ln 2]; a
    refused prompt's distribution is all on the refusal's first token."""

    n: int
    kl_median: float | None
    kl_mean: float | None
    js: float


def measure_divergence(base: Tensor, changed: Tensor, refused: Tensor, refusal_token: int) -> Divergence:
    """Divergence from log p (n, V) before and after; (n,) which prompts were refused."""
    p, q = base.double(), changed.double().clone()
    q[refused] = -torch.inf
    q[refused, refusal_token] = 0.0
    answered = ~refused
    kl = _kl(p[answered], q[answered]).clamp(min=0)
    middle = torch.logaddexp(p, q) - math.log(2)
    js = ((_kl(p, middle) + _kl(q, middle)) / 2).clamp(0, math.log(2))
    some = len(kl) > 0
    return Divergence(
        len(kl), float(kl.median()) if some else None, float(kl.mean()) if some else None, float(js.mean())
    )


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """(n,) KL from log p to log q (n, V); 0 · log 0 is 0."""
    terms = p.exp() * (p - q)
    return torch.where(p.isneginf(), torch.zeros_like(terms), terms).sum(-1)
