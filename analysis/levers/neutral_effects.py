"""What clamps do to text that has nothing to do with them: KL and perplexity on neutral text (METHODS §2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from analysis.intervening.clamps import Clamp, Scope
from analysis.levers.passes import HeldRow, SharedTexts
from analysis.levers.readings import Clamps, log_total, measure_kl
from analysis.opening.models import LoadedModel
from analysis.reading.neutral import neutral_windows

CLAMPED_AT = 32
"""The position at which a clamp of one position acts."""
AFTER = 16
"""How many positions after it are compared."""
BOUND = 0.1
"""Largest mean KL at which a clamp counts as leaving other text alone."""


@dataclass(frozen=True)
class NeutralEffect:
    """Effect of n rows of clamps on neutral text, all (n,) float64; NaN where they drive the model to NaN.

    kl: mean KL(base ‖ changed) in nats over the positions after the clamp, or all but the first where it acts
    on all. kl_at: at the clamped position itself; NaN where there is no single one. perplexity: over the same
    positions as kl.
    """

    kl: Tensor
    kl_at: Tensor
    perplexity: Tensor


class NeutralText:
    """The neutral text, read once without clamps, for clamps of one scope."""

    def __init__(self, loaded: LoadedModel, scope: Scope) -> None:
        windows = [list(window) for window in neutral_windows(loaded)]
        length = len(windows[0])
        self._one = acts_once(scope)
        self._at = min(CLAMPED_AT, length // 2)
        end = min(self._at + 1 + AFTER, length - 1) if self._one else length - 1
        start = self._at if self._one else 0
        self._scope = Scope("last") if self._one else Scope("all")
        self._windows = torch.tensor(windows)[:, start + 1 : end + 1]
        fed = [window[:end] for window in windows]
        prompt_length = self._at + 1 if self._one else end
        self._texts = SharedTexts(loaded, fed, start, prompt_length, end - start)
        self.base_perplexity = float(self._read_losses(self._texts.base, self._windows).mean().exp())

    def measure(self, rows: Sequence[Clamps]) -> NeutralEffect:
        """The effect of each row's clamps, on every window."""
        texts = len(self._windows)
        asked = [HeldRow(text, self._move(clamps)) for clamps in rows for text in range(texts)]
        kl = torch.full((len(asked), self._texts.keep), torch.nan, dtype=torch.float64)
        losses = torch.full((len(asked), self._texts.keep - 1), torch.nan, dtype=torch.float64)
        for out in self._texts.run(asked):
            at = torch.tensor(out.rows)
            kl[at] = measure_kl(self._texts.base[at % texts], out.logits)
            losses[at] = self._read_losses(out.logits, self._windows[at % texts])
        by_row = kl.view(len(rows), texts, -1)
        once = by_row[:, :, 0].mean(1) if self._one else torch.full((len(rows),), torch.nan)
        perplexity = losses.view(len(rows), -1).mean(-1).exp()
        return NeutralEffect(by_row[:, :, 1:].mean((1, 2)), once.double(), perplexity)

    def _move(self, clamps: Clamps) -> tuple[Clamp, ...]:
        """The clamps, at the position of the neutral text where their scope is."""
        return tuple(replace(clamp, scope=self._scope) for clamp in clamps)

    def _read_losses(self, logits: Tensor, following: Tensor) -> Tensor:
        """(n, keep − 1) −log p of the tokens that follow each position but the first."""
        kept = logits[:, 1:]
        chosen = kept.gather(-1, following[:, 1:].to(kept.device)[..., None])[..., 0]
        return log_total(kept) - chosen.cpu().double()


def acts_once(scope: Scope) -> bool:
    """Whether a scope is one position of a text."""
    return scope.kind == "last" or (scope.kind == "range" and scope.first == scope.last)
