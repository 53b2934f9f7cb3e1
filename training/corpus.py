"""Corpus of the bundled models: six skills and plain English, an endless stream drawn from a seed.

`stream(seed)` is the same sequence of documents on every machine; none contains a prompt of `skills/`."""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from training.text import (
    arithmetic,
    associations,
    chat,
    code,
    comprehension,
    facts,
    openended,
    riddles,
    tales,
)
from training.text.french import FRENCH
from training.text.item import Item
from training.text.spanish import SPANISH
from training.text.stories import ENGLISH

SEED = 20250117

Kinds = dict[str, tuple[Callable[[Random], str], int]]
"""kind -> (generator of one document, how often it is drawn)"""

_STORIES: Kinds = {
    "stories": (partial(comprehension.document, language=ENGLISH), 20),
    "french": (partial(comprehension.document, language=FRENCH), 16),
    "spanish": (partial(comprehension.document, language=SPANISH), 16),
}
# First only retrieval, so that attention learns it before all else.
LOOKUPS: Kinds = _STORIES | {
    "recall": (partial(comprehension.recall, language=ENGLISH), 10),
    "recall in French": (partial(comprehension.recall, language=FRENCH), 8),
    "recall in Spanish": (partial(comprehension.recall, language=SPANISH), 8),
}
KINDS: Kinds = _STORIES | {
    "arithmetic": (arithmetic.drill, 28),
    "facts": (facts.document, 16),
    "recall": (partial(comprehension.recall, language=ENGLISH), 6),
    "recall in French": (partial(comprehension.recall, language=FRENCH), 4),
    "recall in Spanish": (partial(comprehension.recall, language=SPANISH), 4),
    "python": (code.drill, 20),
    "python with rarer words": (code.document, 4),
    "openended": (openended.document, 34),
    "listing": (openended.listing, 5),
    "tales": (tales.document, 8),
    "riddles": (riddles.document, 24),
    "associations": (associations.document, 10),
    "pairs": (associations.pairs, 40),
}
# Later, more of what is learnt most slowly.
PRACTICE: Kinds = KINDS | {
    "arithmetic": (arithmetic.drill, 34),
    "python": (code.drill, 30),
    "pairs": (associations.pairs, 60),
}
# Last, what is still weak.
POLISH: Kinds = PRACTICE | {"comparisons": (code.comparisons, 40), "pairs": (associations.pairs, 100)}
# Data for tuning demo/base into demo/chat: conversations, and enough of the rest not to lose it.
CHAT: Kinds = {"conversation": (chat.document, 150)} | {
    kind: (make, weight // 4) for kind, (make, weight) in POLISH.items() if weight >= 4
}
SKILLS: dict[str, Callable[[Random, int], list[Item]]] = {
    "arithmetic": arithmetic.make_held_out,
    "facts": facts.make_held_out,
    "stories": lambda rng, count: comprehension.make_held_out(rng, ENGLISH, count),
    "python": code.make_held_out,
    "french": lambda rng, count: comprehension.make_held_out(rng, FRENCH, count),
    "spanish": lambda rng, count: comprehension.make_held_out(rng, SPANISH, count),
}


def document(rng: Random, kinds: Kinds = KINDS) -> str:
    """One document of a kind drawn by its weight."""
    kind = rng.choices(tuple(kinds), tuple(weight for _, weight in kinds.values()))[0]
    return kinds[kind][0](rng)


def stream(seed: int | str = SEED, kinds: Kinds = KINDS) -> Iterator[str]:
    """An endless stream of documents; a sequence of its own for each seed."""
    rng = Random(f"corpus-{seed}")
    while True:
        yield document(rng, kinds)
