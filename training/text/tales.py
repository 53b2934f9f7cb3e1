"""Plain English tales, descriptions and dialogues, so that the model writes readable text."""

from random import Random

from training.text.item import article, capital
from training.text.knowledge import COUNTRIES
from training.text.words import (
    ADJECTIVES,
    ANIMAL_TABLE,
    BOYS,
    CATEGORIES,
    FEELINGS,
    MOTIONS,
    NAMES,
    RELATIVES,
    SIGHTS,
    TIMES,
    TRAITS,
    VERBS_PAST,
)

HERO = (
    "Once upon a time there was a {trait} {kind} called {n}.",
    "In a {adj} village lived a {kind} called {n}.",
    "There was once a {adj} {kind}. The name of the {kind} was {n}.",
    "{n} was a {trait} {kind} who lived near the {place}.",
    "Long ago, a {kind} called {n} lived in a {adj} house by the {place}.",
)
WANT = (
    "{n} wanted to find {a_treasure}.",
    "More than anything, {n} wished for {a_toy}.",
    "{n} had lost {a_treasure} and felt {feel}.",
    "Every night {n} dreamed of {a_treasure}.",
    "{n} looked for {a_tool}, but there was none.",
    "{n} was looking for a friend.",
    "{n} wanted to learn the {instrument}.",
    "{n} wanted to see the {place2}.",
)
ROAD = (
    "{T} {p} {went} to the {place2} and saw {sight}.",
    "So {n} {went} through the {place2}, past {sight}.",
    "{n} took a {tool} and {a_fruit} and {went} away.",
    "On the road {p} met {a_animal}.",
    "Near the {place2} {p} found {a_clothing}.",
    "{n} {verb} and {verb2} all day.",
    "The {weather} came, but {n} {verb} on.",
    "First {p} {verb}, then {p} {verb2}.",
    "{n} passed a {adj} {tree} and {sight}.",
)
TROUBLE = (
    "Suddenly there was {weather} everywhere.",
    "A {adj2} {animal} stood in the way.",
    "Then the {vehicle} broke down.",
    "But the bridge over the river was broken.",
    "A thief had taken the {treasure}.",
    "It grew dark and {n} was lost.",
    "{n} fell into the water.",
    "The {animal} was hungry and {feel2}.",
)
TALK = (
    '"Can you help me?" asked {n}.',
    '"Who are you?" asked the {animal}.',
    '"I am {feel}," said {n}.',
    '"Do not be afraid," said the {animal}.',
    '"Would you like some {food}?" asked {n}.',
    '"Follow me," said the {animal}.',
    '"I know the way to the {place2}," said the {animal}.',
    '"What {a_animal}!" cried {n}.',
)
HELP = (
    "The {animal} showed {n} the way.",
    "Together they {verb} until morning.",
    "{n} gave the {animal} some {food}.",
    "{a_job} came and helped them.",
    "With the {tool} {n} opened the door.",
    "The {animal} carried {n} across the river.",
    "They built a fire and ate {food}.",
    "{n} played a song on the {instrument} and the {animal} {verb}.",
)
ENDS = (
    "At last {n} found the {treasure} under the {tree}.",
    "In the end {n} came home and was {feel2}.",
    "From that day on, {n} and the {animal} were friends.",
    "{n} never forgot the {animal}.",
    "And so {p} slept, {feel2} and tired.",
    "The {relative} of {n} was very {feel2}.",
    "That night they drank {drink} and told stories.",
    "And the {treasure} was {colour}.",
)
_PLAIN = (
    "animal",
    "treasure",
    "toy",
    "tool",
    "instrument",
    "fruit",
    "clothing",
    "weather",
    "tree",
    "vehicle",
    "food",
    "job",
    "drink",
    "colour",
    "flower",
    "vegetable",
    "sport",
    "subject",
    "city",
)


def _slots(rng: Random) -> dict[str, str]:
    name = rng.choice(NAMES)
    pronoun = "he" if name in BOYS else "she"
    slots = {key: rng.choice(CATEGORIES[key]) for key in _PLAIN}
    slots |= {f"a_{key}": article(word) for key, word in slots.items()}
    slots["place"], slots["place2"] = rng.sample(CATEGORIES["place"], 2)
    slots["adj"], slots["adj2"] = rng.sample([a for a in ADJECTIVES if a[0] not in "aeiou"], 2)
    slots["feel"], slots["feel2"] = rng.sample(FEELINGS, 2)
    slots["verb"], slots["verb2"] = rng.sample(VERBS_PAST, 2)
    kinds = (
        ("boy", "child", "baker", "farmer", "prince", "king")
        if pronoun == "he"
        else ("girl", "child", "baker", "princess", "queen")
    )
    return slots | {
        "n": name,
        "m": rng.choice([n for n in NAMES if n != name]),
        "p": pronoun,
        "kind": rng.choice(kinds),
        "trait": rng.choice([t for t in TRAITS if t[0] not in "aeiou"]),
        "went": rng.choice(MOTIONS),
        "sight": rng.choice(SIGHTS),
        "relative": rng.choice(RELATIVES),
        "T": capital(rng.choice(TIMES)),
    }


def tale(rng: Random) -> str:
    """A hero, a wish, a road, a trouble, help and an end; the same animal, treasure and place all along."""
    slots = _slots(rng)
    parts = [
        rng.choice(HERO),
        rng.choice(WANT),
        *rng.sample(ROAD, rng.randint(1, 3)),
        rng.choice(TROUBLE),
        *rng.sample(TALK, rng.randint(0, 2)),
        *rng.sample(HELP, rng.randint(1, 2)),
        *rng.sample(ENDS, rng.randint(1, 2)),
    ]
    roads = [{"sight": rng.choice(SIGHTS), "went": rng.choice(MOTIONS)} for _ in parts]
    return " ".join(capital(t.format(**{**slots, **fresh})) for t, fresh in zip(parts, roads, strict=True))


ABOUT_ANIMAL = (
    "The {w} is an animal.",
    "{P} live in the {home}.",
    "It likes to eat {eats}.",
    "The young {w} is known as the {young}.",
    "When the {w} is happy, it {sound}.",
    "There are many {p} in the {home}.",
    "People say that the {w} is {trait}.",
    "A {young} stays with its mother.",
    "In the {home} you may meet a {w}.",
    "{P} and other animals need water.",
    "We drew the {w} at school.",
    "The {w} sleeps at night.",
    "Who does not know the {w}?",
    "{n} has a book about {p}.",
)
ABOUT_COUNTRY = (
    "{s} is a land with many towns.",
    "Its capital, {c}, is a big city.",
    "Many people in {c} speak {l}.",
    "The country belongs to {k}.",
    "{n} travelled from {c} to {c2}.",
    "From {c} a train goes to the sea.",
    "In {c} there is an old market.",
    "{n} learned {l} in {c}.",
    "The streets of {c} are long.",
    "{n} comes from {s}.",
    "I have a friend in {c}.",
    "The flag of {s} hangs in the hall.",
)


def about_animal(rng: Random) -> str:
    word, plural, young, eats, home, sound = rng.choice(ANIMAL_TABLE)
    slots = {
        "w": word,
        "P": capital(plural),
        "p": plural,
        "young": young,
        "eats": eats,
        "home": home,
        "sound": sound,
        "trait": rng.choice(TRAITS),
        "n": rng.choice(NAMES),
    }
    return " ".join(t.format(**slots) for t in rng.sample(ABOUT_ANIMAL, rng.randint(3, 6)))


def about_country(rng: Random) -> str:
    country, city, continent, language = rng.choice(COUNTRIES)
    slots = {
        "s": country,
        "c": city,
        "k": continent,
        "l": language,
        "c2": rng.choice(COUNTRIES)[1],
        "n": rng.choice(NAMES),
    }
    return " ".join(t.format(**slots) for t in rng.sample(ABOUT_COUNTRY, rng.randint(3, 6)))


DIALOGUE = (
    ("Where are you going?", "To the {place}."),
    ("What do you see?", "I see {a_animal}."),
    ("What are you eating?", "Some {food}."),
    ("What is in the box?", "There is {a_treasure} in it."),
    ("Who is that?", "That is the {job}."),
    ("What did you buy?", "I bought {a_fruit}."),
    ("What is that sound?", "It is {a_instrument}."),
    ("How is the weather?", "There is {weather}."),
    ("What will you wear?", "My {colour} {clothing}."),
    ("How are you?", "I am {feel}, thank you."),
    ("What do you want to be?", "I want to be {a_job}."),
    ("What do you need?", "I need {a_tool}."),
    ("Where do you live?", "I live in {city}."),
    ("What do you drink?", "A cup of {drink}."),
    ("How will you travel?", "By {vehicle}."),
    ("What grows there?", "{a_flower}."),
    ("What is for dinner?", "{a_vegetable} and {food}."),
)


def dialogue(rng: Random) -> str:
    """Two people ask and answer, each answer free."""
    slots = _slots(rng)
    lines = []
    for question, answer in rng.sample(DIALOGUE, rng.randint(2, 4)):
        lines += [f"{slots['n']}: {question}", f"{slots['m']}: {capital(answer.format(**slots))}"]
    return "\n".join(lines)


def document(rng: Random) -> str:
    return rng.choices((tale, about_animal, about_country, dialogue), (5, 2, 2, 2))[0](rng)
