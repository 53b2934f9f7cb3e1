"""What a method costs in general, whatever was kept: perplexity and next tokens of neutral text, and the
accuracy of a multiple-choice sample (METHODS §4, Evaluation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.intervening.interventions import Change
from analysis.levers.readings import log_total, measure_kl
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.reading.neutral import neutral_windows
from analysis.running.batches import make_batches, run_batch
from analysis.running.perplexity import estimate_effect
from analysis.skills.metrics import measure_change
from analysis.skills.tasks import MeasuredItems, measure_items
from analysis.unlearning.results import FitSettings, Utility

LARGEST_RATIO = 700.0
"""Largest difference of mean −log p (nats) whose exponential is a float."""


@dataclass(frozen=True, eq=False)
class _Window:
    """One neutral passage under a change. base_loss, loss: summed −log p of its `targets` tokens, before and
    after, in nats; kl (T,): KL(base ‖ changed) of the next token at each position, in nats.
    """

    base_loss: float
    loss: float
    targets: int
    kl: Tensor


def measure_utility(
    loaded: LoadedModel,
    changes: Sequence[Change],
    plan: FitSettings,
    mmlu: MeasuredItems | None = None,
    pulse: Pulse = lambda done, total: None,
) -> Utility:
    """The cost of changes to what nobody asked about. mmlu: the multiple choice on the unchanged model.

    A choice that a guard refuses is wrong; a passage that it refuses is in neither perplexity nor KL.
    """
    choices = None
    if mmlu is not None:
        after = measure_items(loaded, mmlu.items, changes, plan.ways, pulse) if changes else mmlu
        choices = measure_change(mmlu, after, plan.seed)
    windows = [one for ids in neutral_windows(loaded) if (one := _read_window(loaded, ids, changes))]
    if not windows:
        return Utility(choices, None, None, None, 0)
    targets = np.array([one.targets for one in windows], dtype=float)
    losses, before = (np.array([getattr(one, name) for one in windows]) for name in ("loss", "base_loss"))
    effect = estimate_effect(losses, before, targets)
    ends = None if effect.interval is None else (_ratio(effect.interval[0]), _ratio(effect.interval[1]))
    kl = float(torch.cat([one.kl for one in windows]).median())
    return Utility(choices, _ratio(effect.value), ends, kl, len(windows))


def _ratio(nats: float) -> float:
    return float(np.exp(min(nats, LARGEST_RATIO)))


def _read_window(loaded: LoadedModel, ids: Sequence[int], changes: Sequence[Change]) -> _Window | None:
    """A passage before and after; None if a guard refuses it."""
    [batch] = make_batches(loaded, [ids])
    logits, _ = run_batch(loaded, batch, last_only=False)
    base = changed = logits[0].float()
    if changes:
        logits, reach = run_batch(loaded, batch, changes, last_only=False)
        if reach.abstained:
            return None
        changed = logits[0].float()
    before, after = (_sum_losses(found, ids[1:]) for found in (base, changed))
    return _Window(before, after, len(ids) - 1, measure_kl(base, changed))


def _sum_losses(logits: Tensor, targets: Sequence[int]) -> float:
    """Σ −log p of the tokens that follow each position but the last, from logits (T, V), in nats."""
    kept = logits[:-1]
    chosen = kept.gather(-1, torch.tensor(targets, device=kept.device)[:, None])[:, 0]
    return float((log_total(kept) - chosen.cpu().double()).sum())
