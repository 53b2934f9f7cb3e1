"""A pair of texts while it grows, and stored: the one place where it becomes JSON and is read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from analysis.intervening.hooks import Reach
from analysis.running.generation import BASE, CHANGED, GenerationStep, read_best_tokens
from workbench.generating.token_chances import ChosenByRow, add_chosen
from workbench.generating.word_places import WordPlace
from workbench.records import read_record, write_record


@dataclass(frozen=True)
class WordByRow:
    """A word's probability at each generated position; None where it would not fit into the context."""

    base: tuple[float | None, ...] = ()
    changed: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class StoredPair:
    """Token ids of both texts, and what was measured. reach: as `Reach.counts`, empty before the first step.

    answer: (token id, base, changed) of the answer position. word: (base, changed) probability of the word
    there. per_position, chosen, place: None in pairs stored before they were measured; place: without a word
    too. seconds: the time it took.
    """

    base: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    answer: tuple[tuple[int, float, float], ...] = ()
    word: tuple[float, float] | None = None
    reach: Mapping[str, Any] = field(default_factory=dict)
    per_position: WordByRow | None = None
    chosen: ChosenByRow | None = None
    seconds: float = 0.0
    place: WordPlace | None = None

    def to_document(self) -> dict[str, Any]:
        """As JSON; `read_pair` reads it."""
        document = write_record(self)
        if self.place is None:
            del document["place"]
        return document

    def add(self, step: GenerationStep, reach: Reach, also: Sequence[int]) -> StoredPair:
        """The pair with one more position. reach: of all steps so far. also: tokens reported in any case."""
        grown = self if self.answer else self._begin(step, also)
        base, changed = step.tokens[BASE], step.tokens[CHANGED]
        return replace(
            grown,
            base=self.base if base is None else (*self.base, base),
            changed=self.changed if changed is None else (*self.changed, changed),
            reach=reach.counts(),
            per_position=None if grown.per_position is None else _add_word(grown.per_position, step),
            chosen=add_chosen(self.chosen, step, together=self.base == self.changed),
        )

    def _begin(self, step: GenerationStep, also: Sequence[int]) -> StoredPair:
        """With what is read at the first position."""
        best = read_best_tokens(step, also=also)
        return replace(
            self,
            answer=tuple(zip(best.token_ids, best.base, best.changed, strict=True)),
            word=None if step.word is None else (step.word[BASE], step.word[CHANGED]),
            per_position=None if step.word is None else WordByRow(),
        )


def read_pair(document: Mapping[str, Any]) -> StoredPair:
    """The pair that `StoredPair.to_document` wrote, of earlier versions too. Raises IncompleteRecord."""
    return read_record(StoredPair, document)


def _add_word(so_far: WordByRow, step: GenerationStep) -> WordByRow:
    base, changed = step.word or (None, None)
    return WordByRow(
        so_far.base if step.tokens[BASE] is None else (*so_far.base, base),
        so_far.changed if step.tokens[CHANGED] is None else (*so_far.changed, changed),
    )
