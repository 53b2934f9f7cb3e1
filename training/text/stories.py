"""Skill 3: English short stories with comprehension questions."""

from training.text.comprehension import Facet, Language
from training.text.item import article
from training.text.words import ANIMALS, CATEGORIES, FEELINGS, NAMES, RELATIVES, SIGHTS, TIMES

_THINGS = tuple(
    article(w) for w in "kite ball book lamp drum doll boat clock bell basket candle mirror".split()
)
_PETS = tuple(article(w) for w in ANIMALS[:14] if w not in ("sheep", "fish"))
_FOODS = tuple("bread cheese soup rice pasta pizza cake salad honey porridge toast chicken".split())
_PLACES = tuple(
    f"the {w}"
    for w in "beach forest river park lake castle market museum library school farm village".split()
)
_CLOTHES = tuple(
    article(w) for w in "coat hat scarf shirt dress jacket cap belt skirt cloak jumper crown".split()
)
_COLOURS = tuple("red blue green black white yellow brown pink grey purple orange gold".split())

FACETS = (
    Facet(
        "bought",
        "bought {v}",
        _THINGS,
        (
            "{n} bought {v} at the market.",
            "At the shop, {n} bought {v}.",
            "With some coins {n} bought {v}.",
            "{n} went to town and bought {v}.",
            "In the morning {n} bought {v}.",
        ),
        (
            "What did {n} buy?",
            "What was it that {n} bought?",
            "Which thing did {n} buy?",
            "{n} bought something. What was it?",
        ),
        ("What is the thing that {n} bought?", "What did {n} buy in the story?"),
    ),
    Facet(
        "pet",
        "saw {v}",
        _PETS,
        (
            "{n} saw {v} near the road.",
            "On the way home, {n} saw {v}.",
            "From the window {n} saw {v}.",
            "{n} looked up and saw {v}.",
            "One day {n} saw {v}.",
        ),
        (
            "What did {n} see?",
            "What was it that {n} saw?",
            "Which animal did {n} see?",
            "{n} saw an animal. What was it?",
        ),
        ("What is the animal that {n} saw?", "What did {n} see in the story?"),
    ),
    Facet(
        "ate",
        "ate {v}",
        _FOODS,
        (
            "{n} ate {v} for lunch.",
            "For dinner {n} ate {v}.",
            "{n} was hungry and ate {v}.",
            "At noon {n} ate {v}.",
            "{n} sat at the table and ate {v}.",
        ),
        (
            "What did {n} eat?",
            "What was it that {n} ate?",
            "Which food did {n} eat?",
            "{n} ate something. What was it?",
        ),
        ("What is the food that {n} ate?", "What did {n} eat in the story?"),
    ),
    Facet(
        "went",
        "went to {v}",
        _PLACES,
        (
            "{n} went to {v}.",
            "After breakfast {n} went to {v}.",
            "{n} took the bus and went to {v}.",
            "Then {n} went to {v}.",
            "{n} was bored and went to {v}.",
        ),
        (
            "Where did {n} go?",
            "To which place did {n} go?",
            "Where was it that {n} went?",
            "{n} went somewhere. Where was it?",
        ),
        ("What is the place that {n} went to?", "Where did {n} go in the story?"),
    ),
    Facet(
        "wore",
        "wore {v}",
        _CLOTHES,
        (
            "{n} wore {v}.",
            "That day {n} wore {v}.",
            "It was cold, so {n} wore {v}.",
            "{n} got up and wore {v}.",
            "At the party {n} wore {v}.",
        ),
        (
            "What did {n} wear?",
            "What was it that {n} wore?",
            "Which clothes did {n} wear?",
            "{n} wore something. What was it?",
        ),
        ("What is the thing that {n} wore?", "What did {n} wear in the story?"),
    ),
    Facet(
        "painted",
        "painted the door {v}",
        _COLOURS,
        (
            "{n} painted the door {v}.",
            "With a brush {n} painted the door {v}.",
            "{n} painted the old door {v}.",
            "In the end {n} painted the door {v}.",
            "{n} took a brush and painted the door {v}.",
        ),
        (
            "What colour did {n} paint the door?",
            "Which colour did {n} use?",
            "In which colour did {n} paint the door?",
            "{n} painted the door. What colour was it?",
        ),
        ("Which colour did {n} paint the door?", "What is the colour that {n} used?"),
    ),
)

ENGLISH = Language(
    "en",
    "stories",
    NAMES[:24],
    FACETS,
    person_last=(
        "The one who {deed} was {n}.",
        "The person that {deed} was {n}.",
        "Somebody {deed}, and it was {n}.",
        "Do you know who {deed}? It was {n}.",
        "Somebody {deed}: it was {n}.",
    ),
    who=("Who {deed}?", "Who is the one that {deed}?", "Which person {deed}?", "Who was it that {deed}?"),
    who_unseen=("Who was the one that {deed}?", "Which one of them {deed}?"),
    openings=(
        "It was a {feeling} day.",
        "It was raining {time}.",
        "The sun was shining.",
        "Once there was a small village.",
        "The friends met {time}.",
        "This happened {time}.",
        "There was snow on the hills.",
        "A cold wind blew {time}.",
    ),
    fillers=(
        "The {animal} slept under the tree.",
        "A {animal} crossed the road.",
        "There was music in the street.",
        "They saw {sight}.",
        "The river was {colour}.",
        "Everyone felt {feeling}.",
        "The rain stopped.",
        "A {relative} came to visit.",
        "The children played with a {toy}.",
        "Somewhere a bell rang.",
        "The king of the land was {feeling}.",
        "There was a {flower} in the window.",
        "The {fruit} tree was full of fruit.",
    ),
    endings=(
        "Then everyone went home.",
        "In the evening they were {feeling}.",
        "It was a good day.",
        "Soon the moon rose.",
        "They told a story about {sight}.",
        "At night it was quiet.",
    ),
    question="Question:",
    answer="Answer:",
    slots={
        "feeling": FEELINGS,
        "time": TIMES,
        "animal": CATEGORIES["animal"],
        "sight": SIGHTS,
        "relative": RELATIVES,
        "colour": CATEGORIES["colour"],
        "toy": CATEGORIES["toy"],
        "flower": CATEGORIES["flower"],
        "fruit": CATEGORIES["fruit"],
    },
)
