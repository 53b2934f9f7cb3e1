"""What rows of clamps do to a word at the answer position of one prompt: probability, top token, KL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.errors import PromptTooLong
from analysis.intervening.clamps import Clamp, Scope
from analysis.levers.passes import HeldRow, SharedTexts
from analysis.opening.models import LoadedModel
from analysis.running.words import list_excluded

Clamps = tuple[Clamp, ...]
LEAST_END = 1e-15
"""Least probability that a word ends; without it one that surely goes on has −∞, as where there is NaN."""


@dataclass(frozen=True)
class WordReading:
    """A word at one answer position under n rows of clamps, all (n,).

    log_p: log P(word), float64; NaN where a clamp drove the model to NaN. kl: KL(base ‖ changed) of that
    position in nats, float64. top: whether the likeliest token begins a spelling. acted: on how many
    positions a row's clamps acted, all together.
    """

    log_p: Tensor
    kl: Tensor
    top: Tensor
    acted: Tensor

    @property
    def log_odds(self) -> Tensor:
        """(n,) log P − log(1 − P)."""
        return to_log_odds(self.log_p)

    @property
    def probability(self) -> Tensor:
        """(n,) P(word), in [0, 1]."""
        return self.log_p.exp().clamp(max=1.0)


def to_log_odds(log_p: Tensor) -> Tensor:
    """log P − log(1 − P) of log-probabilities (…), float64; 1 − P at least 1e-15."""
    return log_p - (-torch.expm1(log_p)).clamp(min=1e-15).log()


def check_room(loaded: LoadedModel, ids: Sequence[int], spellings: Sequence[Sequence[int]]) -> None:
    """Raise PromptTooLong where a prompt (token ids) and a word behind it do not fit into the context."""
    longest = max(len(pieces) for pieces in spellings)
    if len(ids) + longest > loaded.anatomy.context:
        raise PromptTooLong(
            f"the prompt has {len(ids)} tokens, the word up to {longest} and the model's context is "
            f"{loaded.anatomy.context}; shorten the prompt"
        )


class WordReader:
    """Reads a word behind one prompt, the prompt's common part computed once.

    ids: token ids up to the answer position, which is the last. spellings: token ids of each. scope: of all
    clamps that will be read. exact: leave out what of P(word) goes on to another word (Rome|o), which takes
    one further step. kl: whether KL is measured; NaN if not. Raises PromptTooLong.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        ids: Sequence[int],
        spellings: Sequence[Sequence[int]],
        scope: Scope,
        exact: bool = False,
        kl: bool = True,
    ) -> None:
        check_room(loaded, ids, spellings)
        self.loaded = loaded
        self._spellings = [tuple(pieces) for pieces in spellings]
        self._exact, self._kl = exact, kl
        self._excluded = list_excluded(loaded, self._spellings)
        fed = self._list_fed()
        first = max(int(scope.interval(len(ids))[0]), 0)
        start = min(first, len(ids) - 1)
        self._texts: dict[tuple[int, ...], SharedTexts] = {}
        begun = None
        for tail in fed:
            begun = SharedTexts(loaded, [[*ids, *tail]], start, len(ids), len(tail) + 1, begun=begun)
            self._texts[tail] = begun
        self.base = self._read_all([()], [(0,)], {tail: text.base for tail, text in self._texts.items()})

    def _list_fed(self) -> list[tuple[int, ...]]:
        """The pieces that are fed behind the prompt, one tuple for each pass; () is a part of any other."""
        if self._exact:
            return list(dict.fromkeys(self._spellings))
        several = [pieces[:-1] for pieces in self._spellings if len(pieces) > 1]
        return list(dict.fromkeys(several)) or [()]

    def read(self, rows: Sequence[Clamps]) -> WordReading:
        """The word under each row's clamps, as many rows together as memory allows."""
        n = len(rows)
        asked = [HeldRow(0, clamps) for clamps in rows]
        parts = torch.full((n, len(self._spellings)), -torch.inf, dtype=torch.float64)
        kl, top = torch.full((n,), torch.nan, dtype=torch.float64), torch.zeros(n, dtype=torch.bool)
        acted = torch.zeros(n, dtype=torch.long)
        for number, (tail, texts) in enumerate(self._texts.items()):
            for out in texts.run(asked):
                at = torch.tensor(out.rows)
                self._add_logs(parts, at, tail, out.logits)
                if number == 0:
                    acted[at] = torch.tensor(out.acted)
                    if self._kl:
                        kl[at] = measure_kl(texts.base[:, 0], out.logits[:, 0])
                    top[at] = self._is_top(out.logits[:, 0])
        return WordReading(parts.logsumexp(-1), kl, top, acted)

    def _read_all(
        self, rows: Sequence[Clamps], places: Sequence[Sequence[int]], logits: dict[tuple[int, ...], Tensor]
    ) -> WordReading:
        """The base's reading, from logits that are there."""
        parts = torch.full((1, len(self._spellings)), -torch.inf, dtype=torch.float64)
        for tail, given in logits.items():
            self._add_logs(parts, torch.tensor([0]), tail, given)
        first = next(iter(logits.values()))[:, 0]
        zero = torch.zeros(1, dtype=torch.float64)
        return WordReading(parts.logsumexp(-1), zero, self._is_top(first), torch.zeros(1, dtype=torch.long))

    def _add_logs(self, parts: Tensor, at: Tensor, tail: tuple[int, ...], logits: Tensor) -> None:
        """Put in the log-probability of every spelling that this pass read; logits (n, keep, V)."""
        whole = log_total(logits)
        for column, pieces in enumerate(self._spellings):
            if tail != pieces if self._exact else pieces[:-1] and tail != pieces[:-1]:
                continue
            place = torch.arange(len(pieces), device=logits.device)
            chosen = logits[:, place, torch.tensor(pieces, device=logits.device)]
            logs = (chosen.cpu().double() - whole[:, : len(pieces)]).sum(-1)
            excluded = self._excluded[column]
            if self._exact and excluded is not None:
                after = logits[:, len(pieces), excluded.to(logits.device)].cpu().double()
                longer = (after - whole[:, len(pieces), None]).exp().sum(-1)
                logs = logs + torch.log1p(-longer.clamp(max=1.0 - LEAST_END))
            parts[at, column] = logs

    def _is_top(self, logits: Tensor) -> Tensor:
        firsts = torch.tensor(sorted({pieces[0] for pieces in self._spellings}), device=logits.device)
        return torch.isin(logits.argmax(-1), firsts).cpu()


def log_total(logits: Tensor) -> Tensor:
    """(…,) float64 on the CPU: log Σ exp of logits (…, V).

    The sum is taken without its largest term's size, and its logarithm in float64: an error of float32 would
    be large in the log-odds where P is near 1.
    """
    largest = logits.amax(-1, keepdim=True)
    total = (logits - largest).exp_().sum(-1).cpu().double()
    return total.log() + largest[..., 0].cpu().double()


def measure_kl(base: Tensor, changed: Tensor) -> Tensor:
    """(…,) float64 on the CPU: KL(base ‖ changed) in nats of logits (…, V), −∞ at holes in both."""
    log_p = base.log_softmax(-1)
    p = log_p.exp()
    entropy = (p * log_p.nan_to_num(neginf=0.0)).sum(-1).cpu().double()
    finite = torch.where(torch.isneginf(changed), 0.0, changed)
    cross = (p * finite).sum(-1).cpu().double() - log_total(changed)
    return (entropy - cross).clamp(min=0)
