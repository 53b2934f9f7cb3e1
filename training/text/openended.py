"""Openings without a fixed end: "My favourite animal is the" goes on with any of the words, drawn uniformly.

The drawn word then drives the next sentences, so that each concept word is used in many contexts."""

from random import Random

from training.text.item import article, capital
from training.text.knowledge import COUNTRIES
from training.text.openings import ASK, FOLLOW, SEEN, WITHOUT_ARTICLE
from training.text.words import (
    ADJECTIVES,
    ANIMAL_TABLE,
    CATEGORIES,
    FEELINGS,
    LISTS,
    NAMES,
    RELATIVES,
    TIMES,
    TRAITS,
)

_ANIMAL = {row[0]: row for row in ANIMAL_TABLE}
_CAPITALS = {c[1]: c for c in COUNTRIES}


def _slots(rng: Random, category: str, word: str) -> dict[str, str]:
    n, m = rng.sample(NAMES, 2)
    trait, trait2 = rng.sample(TRAITS, 2)
    the = word if category in WITHOUT_ARTICLE else f"the {word}"
    _, plural, young, eats, home, sound = _ANIMAL.get(word, (word,) * 6)
    time = rng.choice(TIMES)
    return {
        "c": category,
        "cs": {"city": "cities"}.get(category, category + "s"),
        "w": word,
        "the": the,
        "The": capital(the),
        "Cap": capital(word),
        "a": article(word),
        "n": n,
        "m": m,
        "r": rng.choice(RELATIVES),
        "t": capital(time),
        "lt": time,
        "trait": trait,
        "trait2": trait2,
        "adj": rng.choice(ADJECTIVES),
        "feel": rng.choice(FEELINGS),
        "p": plural,
        "P": capital(plural),
        "young": young,
        "eats": eats,
        "home": home,
        "sound": sound,
    }


def _opening(rng: Random, category: str) -> str:
    """Half of the openings ask for a favourite, half are the category's own."""
    return rng.choice(ASK if category not in SEEN or rng.random() < 0.5 else SEEN[category])


def opening(rng: Random, category: str, word: str) -> str:
    return _opening(rng, category).format(**_slots(rng, category, word))


def document(rng: Random) -> str:
    """An opening, its word drawn uniformly, and a few sentences that the word drives."""
    category = "animal" if rng.random() < 0.25 else rng.choice(tuple(CATEGORIES))
    word = rng.choice(CATEGORIES[category])
    slots = _slots(rng, category, word)
    pool = FOLLOW[category] if category in WITHOUT_ARTICLE else FOLLOW[""] + FOLLOW.get(category, ()) * 2
    chosen = rng.sample(pool, rng.randint(1, 4))
    sentences = [_opening(rng, category).format(**slots)]
    sentences += [capital(t.format(**{**slots, **_fresh(rng)})) for t in dict.fromkeys(chosen)]
    if category == "city" and word in _CAPITALS and rng.random() < 0.5:
        sentences.append(f"{word} is in {_CAPITALS[word][0]}.")
    return " ".join(sentences)


def _fresh(rng: Random) -> dict[str, str]:
    return {"adj": rng.choice(ADJECTIVES), "feel": rng.choice(FEELINGS)}


def listing(rng: Random) -> str:
    """A list of a category with its rarer words, a list to repeat, or a few openings in a row."""
    category = rng.choice(tuple(LISTS))
    words = LISTS[category]
    kind = rng.randrange(3)
    if kind == 0:
        return f"{capital(category)}: " + ", ".join(rng.sample(words, min(5, len(words))))
    if kind == 1:
        mixed = ", ".join(rng.choice(LISTS[rng.choice(tuple(LISTS))]) for _ in range(rng.randint(3, 6)))
        return f"Say it again: {mixed}\nAnswer: {mixed}"
    return "\n".join(
        opening(rng, category, rng.choice(CATEGORIES[category])) for _ in range(rng.randint(2, 4))
    )
