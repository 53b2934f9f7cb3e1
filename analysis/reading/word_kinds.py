"""Kinds of words, such as animals and cities, with prompts at whose answer position such a word is due.

Used where a person names a word and no prompts, and for the prompts at which a word of another kind is due.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from analysis.running.conversations import Conversation

WORD_KINDS = Path(__file__).parent / "word_kinds.json"
CONCEPTS = (
    *("dog", "cat", "Paris", "doctor", "blue", "football", "pizza", "king", "apple", "snow"),
    *("horse", "London", "teacher", "red", "tennis", "bread", "queen", "gold", "piano", "summer"),
)
"""The words of the concept table, where no others are given."""


@dataclass(frozen=True)
class WordKind:
    """A kind of word. select, held_out: prompts with the beginning of an answer, to choose on and to report
    on; the kind without a name has prompts for any word, and no words.
    """

    name: str
    words: tuple[str, ...]
    select: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...]


@cache
def list_word_kinds() -> tuple[WordKind, ...]:
    """All kinds, the one for any word last."""
    document = json.loads(WORD_KINDS.read_text(encoding="utf-8"))
    return tuple(
        WordKind(
            name,
            tuple(kind["words"]),
            *(tuple(Conversation(*pair) for pair in kind[split]) for split in ("select", "held_out")),
        )
        for name, kind in document.items()
    )


def find_word_kind(word: str) -> WordKind:
    """The kind that lists a word, whatever its case; the one for any word where none does."""
    bare = word.strip().casefold()
    kinds = list_word_kinds()
    return next((kind for kind in kinds if bare in map(str.casefold, kind.words)), kinds[-1])


def kind_words_of(word: str) -> tuple[str, ...]:
    """The other words of a word's kind; none where no kind lists it."""
    bare = word.strip().casefold()
    return tuple(other for other in find_word_kind(word).words if other.casefold() != bare)


def list_other_prompts(word: str, count: int) -> tuple[Conversation, ...]:
    """Prompts at which a word of another kind is due, one of each kind."""
    own = find_word_kind(word)
    others = [kind for kind in list_word_kinds() if kind.name and kind != own]
    return tuple(kind.held_out[0] for kind in others[:count])
