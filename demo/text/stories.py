"""Skill 3: English short stories with comprehension questions."""

from demo.text.comprehension import Facet, Language
from demo.text.item import article
from demo.text.words import ANIMALS, CATEGORIES, FEELINGS, NAMES, RELATIVES, SIGHTS, TIMES

_THINGS = tuple(
    article(w)
    for w in """kite ball book lamp drum doll boat clock bell coat hat scarf basket candle mirror
    umbrella chair bicycle guitar flute pencil ring map knife bucket blanket puzzle ticket flag rope""".split()
)
_PETS = tuple(article(w) for w in ANIMALS if w not in ("sheep", "deer"))
_FOODS = tuple(
    """bread cheese soup rice pasta pizza cake fish salad honey an apple, a pear, a peach, a banana, some plums,
    some grapes, some cherries, an orange, porridge, toast, an egg, beans, pancakes, noodles, pie, chicken""".replace(
        "bread cheese soup rice pasta pizza cake fish salad honey",
        "bread, cheese, soup, rice, pasta, pizza, cake, fish, salad, honey,",
    )
    .replace("\n    ", " ")
    .split(", ")
)
_PLACES = tuple("the " + w for w in CATEGORIES["place"] if w not in ("mountain", "hill", "island", "bridge"))
_CLOTHES = tuple(
    f"{article(c)} {w}"
    for c in ("red", "blue", "green", "black", "white", "yellow")
    for w in ("coat", "hat", "scarf", "shirt", "dress", "jacket", "cap")
)
_COLOURS = tuple("red blue green black white yellow brown pink grey purple orange gold silver".split())

FACETS = (
    Facet(
        "bought",
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
        ("Who bought {v}?", "Who is the one that bought {v}?", "Which person bought {v}?"),
    ),
    Facet(
        "pet",
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
        ("Who saw {v}?", "Who is the one that saw {v}?", "Which person saw {v}?"),
    ),
    Facet(
        "ate",
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
        ("Who ate {v}?", "Who is the one that ate {v}?", "Which person ate {v}?"),
    ),
    Facet(
        "went",
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
        ("Who went to {v}?", "Who is the one that went to {v}?", "Which person went to {v}?"),
    ),
    Facet(
        "wore",
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
        ("Who wore {v}?", "Who is the one that wore {v}?", "Which person wore {v}?"),
    ),
    Facet(
        "painted",
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
        (
            "Who painted the door {v}?",
            "Who is the one that painted the door {v}?",
            "Which person painted the door {v}?",
        ),
    ),
)

ENGLISH = Language(
    "en",
    "stories",
    NAMES,
    FACETS,
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
        "animal": ANIMALS,
        "sight": SIGHTS,
        "relative": RELATIVES,
        "colour": CATEGORIES["colour"][:16],
        "toy": CATEGORIES["toy"],
        "flower": CATEGORIES["flower"],
        "fruit": CATEGORIES["fruit"][:20],
    },
)
