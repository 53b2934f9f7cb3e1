"""A word on several prompts at once: what rows of clamps do to it, as means over the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.intervening.clamps import Scope
from analysis.levers.readings import Clamps, WordReader, WordReading
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse

Spelled = tuple[tuple[int, ...], ...]
"""The token ids of each spelling of a word behind one prompt."""


@dataclass(frozen=True)
class WordPrompt:
    """A prompt up to its answer position, as token ids, and the word's spellings behind it."""

    ids: tuple[int, ...]
    spellings: Spelled


@dataclass(frozen=True)
class BenchReading:
    """n rows of clamps on p prompts. log_odds (n,): mean log-odds of the word, −∞ where a clamp drove the
    model to NaN; probability (p, n); kl (n,): mean KL at the answer position; top (p, n): whether the word
    is the likeliest; reached (n,): share of the prompts in which any clamp acted.
    """

    log_odds: Tensor
    probability: Tensor
    kl: Tensor
    top: Tensor
    reached: Tensor

    @property
    def mean(self) -> Tensor:
        """(n,) mean P(word) over the prompts."""
        return self.probability.mean(0)


class WordBench:
    """Reads a word behind each of several prompts. exact, kl: as in `WordReader`."""

    def __init__(
        self,
        loaded: LoadedModel,
        prompts: Sequence[WordPrompt],
        scope: Scope,
        exact: bool = False,
        kl: bool = True,
        pulse: Pulse = lambda done, total: None,
    ) -> None:
        self.loaded, self.prompts, self.scope, self._pulse = loaded, tuple(prompts), scope, pulse
        self._readers = []
        for prompt in prompts:
            pulse(0, 0)
            self._readers.append(WordReader(loaded, prompt.ids, prompt.spellings, scope, exact, kl))
        self.base = _join([reader.base for reader in self._readers])

    def read(self, rows: Sequence[Clamps]) -> BenchReading:
        """The word under each row's clamps on every prompt."""
        found = []
        for reader in self._readers:
            self._pulse(0, 0)
            found.append(reader.read(rows))
        return _join(found)


def _join(readings: Sequence[WordReading]) -> BenchReading:
    log_odds = torch.stack([reading.log_odds for reading in readings]).mean(0)
    return BenchReading(
        log_odds=log_odds.nan_to_num(nan=-torch.inf, neginf=-torch.inf),
        probability=torch.stack([reading.probability for reading in readings]).nan_to_num(0.0),
        kl=torch.stack([reading.kl for reading in readings]).mean(0),
        top=torch.stack([reading.top for reading in readings]),
        reached=torch.stack([reading.acted > 0 for reading in readings]).double().mean(0),
    )
