"""Perplexity of a text, window by window, and what a change does to it (METHODS §3).

perplexity = exp(mean NLL), over windows without overlap, targets from position 1 on
effect     = Δ mean NLL, in nats; intervals by bootstrap over windows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.errors import HeadlampError
from analysis.intervening.interventions import Intervention, intervene
from analysis.opening.models import LoadedModel
from analysis.running.continuing import check_continues

METHOD_VERSION = "1"
RESAMPLES, CONFIDENCE = 2000, 0.95
_CHUNK = 256
"""Positions whose log probabilities are in memory at once, in float32."""
Array = np.ndarray[Any, np.dtype[np.float64]]


def measure_window_nll(
    loaded: LoadedModel, windows: Sequence[Sequence[int]], interventions: Sequence[Intervention] = ()
) -> Array:
    """(B,) summed −log p of the targets (all tokens but the first) of B windows of equal length, in nats.

    Rows of the head beyond the tokenizer are left out. Raises HeadlampError for NaN or infinity.
    """
    check_continues(loaded)
    fed = torch.tensor([list(window) for window in windows], device=loaded.device)
    positions = torch.arange(fed.shape[1], device=loaded.device).expand(len(fed), -1)
    with intervene(loaded, interventions, positions=positions), torch.inference_mode():
        logits = loaded.model(input_ids=fed, position_ids=positions, use_cache=False).logits
        total = torch.zeros(len(fed), dtype=torch.float64)
        for start in range(0, fed.shape[1] - 1, _CHUNK):
            target = fed[:, start + 1 : start + 1 + _CHUNK, None]
            part = logits[:, start : start + target.shape[1]]
            log_p = loaded.vocabulary.restrict(part).float().log_softmax(-1)
            total += -log_p.gather(-1, target).double().sum((1, 2)).cpu()
    if not torch.isfinite(total).all():
        raise HeadlampError(
            f"{loaded.ref.name} gives NaN or infinity on this text in {loaded.dtype}, so it has no "
            f"perplexity; {suggest_dtype(loaded)}"
        )
    return total.numpy()


def suggest_dtype(loaded: LoadedModel) -> str:
    """Advice for a model that gives NaN or infinity."""
    again = "" if loaded.dtype == "float32" else "open it in float32, or "
    return f"{again}check for damaged weights"


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % bootstrap interval over windows; None if there is only one window."""

    value: float
    interval: tuple[float, float] | None


def estimate_perplexity(nll: Array, targets: Array) -> Estimate:
    """exp(Σ nll / Σ targets) of windows (n,)."""
    return _estimate(lambda at: np.exp(nll[at].sum(-1) / targets[at].sum(-1)), len(nll))


def estimate_effect(nll: Array, base: Array, targets: Array) -> Estimate:
    """Δ mean NLL of the same windows (n,), changed − base, in nats per token, resampled in pairs."""
    return _estimate(lambda at: (nll - base)[at].sum(-1) / targets[at].sum(-1), len(nll))


def _estimate(statistic: Any, windows: int) -> Estimate:
    """A statistic of window indices (…, n), and its percentile interval; the same resamples always."""
    value = float(statistic(np.arange(windows)))
    if windows < 2:
        return Estimate(value, None)
    drawn = np.random.default_rng(0).integers(0, windows, (RESAMPLES, windows))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(statistic(drawn), [tail, 100 - tail])
    return Estimate(value, (float(low), float(high)))


def measure_repetition(ids: Sequence[int], n: int = 4) -> float | None:
    """Repetition: 1 − distinct / all n-grams of a text, in [0, 1). None: too short."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else None
