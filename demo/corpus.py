"""What the bundled models read: six skills and plain English, drawn without end from a seed.

`stream(seed)` is the same sequence of documents on every machine; none contains a prompt of `skills/`."""

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from demo.text import arithmetic, code, comprehension, facts, openended, riddles, tales
from demo.text.french import FRENCH
from demo.text.item import Item
from demo.text.spanish import SPANISH
from demo.text.stories import ENGLISH

SEED = 20250117

Kinds = dict[str, tuple[Callable[[Random], str], int]]
"""kind -> (generator of one document, how often it is drawn)"""

BROAD: Kinds = {
    "arithmetic": (arithmetic.document, 15),
    "facts": (facts.document, 11),
    "stories": (partial(comprehension.document, language=ENGLISH), 17),
    "python": (code.document, 15),
    "french": (partial(comprehension.document, language=FRENCH), 15),
    "spanish": (partial(comprehension.document, language=SPANISH), 15),
    "openended": (openended.document, 44),
    "listing": (openended.listing, 14),
    "tales": (tales.document, 18),
    "riddles": (riddles.document, 19),
}
# The second stage of training: the same kinds, the skills more often and with more answers on a page.
FOCUSED: Kinds = BROAD | {
    "arithmetic": (arithmetic.document, 18),
    "stories": (partial(comprehension.drill, language=ENGLISH), 20),
    "python": (code.drill, 16),
    "french": (partial(comprehension.drill, language=FRENCH), 12),
    "spanish": (partial(comprehension.drill, language=SPANISH), 12),
    "recall": (partial(comprehension.recall, language=ENGLISH), 18),
    "recall in French": (partial(comprehension.recall, language=FRENCH), 8),
    "recall in Spanish": (partial(comprehension.recall, language=SPANISH), 8),
    "openended": (openended.document, 40),
    "listing": (openended.listing, 4),
    "tales": (tales.document, 10),
    "riddles": (riddles.document, 14),
}
# The last stage: what the second left weak, more often.
PRACTICE: Kinds = FOCUSED | {
    "arithmetic": (arithmetic.drill, 24),
    "facts": (facts.document, 8),
    "python": (code.drill, 19),
    "french": (partial(comprehension.drill, language=FRENCH), 18),
    "spanish": (partial(comprehension.drill, language=SPANISH), 18),
    "recall": (partial(comprehension.recall, language=ENGLISH), 8),
    "recall in French": (partial(comprehension.recall, language=FRENCH), 10),
    "recall in Spanish": (partial(comprehension.recall, language=SPANISH), 10),
    "openended": (openended.document, 50),
    "tales": (tales.document, 8),
    "riddles": (riddles.document, 12),
}
SKILLS: dict[str, Callable[[Random, int], list[Item]]] = {
    "arithmetic": arithmetic.held_out,
    "facts": facts.held_out,
    "stories": lambda rng, count: comprehension.held_out(rng, ENGLISH, count),
    "python": code.held_out,
    "french": lambda rng, count: comprehension.held_out(rng, FRENCH, count),
    "spanish": lambda rng, count: comprehension.held_out(rng, SPANISH, count),
}


def document(rng: Random, kinds: Kinds = BROAD) -> str:
    """One document of a kind drawn by its weight."""
    kind = rng.choices(tuple(kinds), tuple(weight for _, weight in kinds.values()))[0]
    return kinds[kind][0](rng)


def stream(seed: int | str = SEED, kinds: Kinds = BROAD) -> Iterator[str]:
    """Documents without end; each seed its own sequence."""
    rng = Random(f"corpus-{seed}")
    while True:
        yield document(rng, kinds)
