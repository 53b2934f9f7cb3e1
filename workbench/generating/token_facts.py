"""The tokens of a finished pair with their probabilities, for a page's hover, a table and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.opening.models import LoadedModel
from analysis.running.prompts import list_shown
from store.evidence import make_token_visible
from workbench.files import table_csv
from workbench.generating.clamping import Generation
from workbench.generating.token_chances import ChosenProbability

COLUMNS = ("text", "token number", "token", "probability", "in the other text", "P(word) before")


@dataclass(frozen=True)
class TokenFacts:
    """A shown token: its exact text, its probability in its own text and in the other one, as in
    ChosenProbability, and P(word) before it, None where no word was asked for or it would not fit.
    """

    token: str
    own: float
    other: float | None
    word: float | None


PairFacts = tuple[tuple[TokenFacts, ...], tuple[TokenFacts, ...]]
"""(base, changed)."""


def list_facts(loaded: LoadedModel, result: Generation) -> PairFacts | None:
    """The shown tokens of both texts, in order; None where their probabilities were not measured."""
    if result.chosen is None:
        return None
    paths = result.per_position or (None, None)
    base = _list_row(loaded, result.base_ids, result.chosen[0], paths[0])
    return base, _list_row(loaded, result.changed_ids, result.chosen[1], paths[1])


def _list_row(
    loaded: LoadedModel,
    token_ids: Sequence[int],
    chosen: Sequence[ChosenProbability],
    path: Sequence[float | None] | None,
) -> tuple[TokenFacts, ...]:
    texts = loaded.vocabulary.texts
    return tuple(
        TokenFacts(texts[token], found.own, found.other, None if path is None else path[at])
        for at, (token, found) in enumerate(zip(token_ids, chosen, strict=True))
        if list_shown(loaded, [token])
    )


def list_fact_rows(facts: PairFacts) -> list[tuple[str, int, str, float, float | None, float | None]]:
    """Cells of COLUMNS; tokens are counted from 1 in each text."""
    return [
        (name, at, make_token_visible(one.token), one.own, one.other, one.word)
        for name, row in zip(("base", "changed"), facts, strict=True)
        for at, one in enumerate(row, 1)
    ]


def write_facts_csv(facts: PairFacts) -> bytes:
    """Every shown token of both texts as CSV, exactly."""
    return table_csv(COLUMNS, list_fact_rows(facts))
