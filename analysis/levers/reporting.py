"""Chosen clamps on prompts they were not chosen on, and where a word of another kind is due."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from analysis.intervening.clamps import Scope
from analysis.levers.bench import WordBench, WordPrompt
from analysis.levers.readings import Clamps
from analysis.levers.results import Lever
from analysis.levers.search import Admitted
from analysis.opening.models import LoadedModel


class LeverReport:
    """Measures clamps on the selection prompts, on held-out ones and on others, with all spellings exactly.

    base: mean P(word) on the held-out prompts without clamps.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        select: Sequence[WordPrompt],
        held_out: Sequence[WordPrompt],
        other: Sequence[WordPrompt],
        scope: Scope,
    ) -> None:
        self._selection, self._held_out = (
            WordBench(loaded, prompts, scope, exact=True, kl=False) for prompts in (select, held_out)
        )
        self._other = WordBench(loaded, other, scope, exact=True, kl=False) if other else None
        self.base = float(self._held_out.base.mean)

    def write(self, admitted: Sequence[Admitted]) -> tuple[Lever, ...]:
        """A lever for each, by falling log-odds on the selection prompts, without controls."""
        rows = [one.tried.clamps for one in admitted]
        if not rows:
            return ()
        reading, selection = self._held_out.read(rows), self._selection.read(rows)
        elsewhere = None if self._other is None else self._other.read(rows).mean.tolist()
        levers = [
            Lever(
                clamps=one.tried.clamps,
                log_odds=float(selection.log_odds[at]),
                selection=float(selection.mean[at]),
                held_out=float(reading.mean[at]),
                base=self.base,
                per_prompt=tuple(reading.probability[:, at].tolist()),
                top1=float(reading.top[:, at].double().mean()),
                specificity=None if elsewhere is None else elsewhere[at],
                neutral_kl=one.neutral_kl,
                collapse=one.collapse,
                controls=(),
                reached=float(reading.reached[at]),
            )
            for at, one in enumerate(admitted)
        ]
        return tuple(sorted(levers, key=lambda lever: -lever.log_odds))

    def add_controls(self, lever: Lever, matched: Sequence[Clamps]) -> Lever:
        """The lever, with the held-out P(word) of each set of random neurons."""
        return replace(lever, controls=tuple(self._held_out.read(matched).mean.tolist()) if matched else ())
