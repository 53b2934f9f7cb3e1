"""Facts of skill 2: tables of countries, animals, colours, opposites, and their wordings."""

from dataclasses import dataclass

from training.text.words import ANIMAL_TABLE


def pair_of(text: str) -> tuple[str, str]:
    """ "grass=green" -> ("grass", "green")."""
    subject, value = text.split("=")
    return subject, value


# country | capital | continent | language
COUNTRIES = tuple(
    tuple(row.strip().split("|"))
    for row in """France|Paris|Europe|French;Italy|Rome|Europe|Italian
England|London|Europe|English;Spain|Madrid|Europe|Spanish;Germany|Berlin|Europe|German;Portugal|Lisbon|Europe|Portuguese
Austria|Vienna|Europe|German;Ireland|Dublin|Europe|English;Greece|Athens|Europe|Greek;Norway|Oslo|Europe|Norwegian
Sweden|Stockholm|Europe|Swedish;Denmark|Copenhagen|Europe|Danish;Finland|Helsinki|Europe|Finnish
Poland|Warsaw|Europe|Polish;Hungary|Budapest|Europe|Hungarian;Belgium|Brussels|Europe|Dutch
Russia|Moscow|Europe|Russian;Ukraine|Kyiv|Europe|Ukrainian;Romania|Bucharest|Europe|Romanian
Bulgaria|Sofia|Europe|Bulgarian;Iceland|Reykjavik|Europe|Icelandic;Scotland|Edinburgh|Europe|English
Wales|Cardiff|Europe|Welsh;Croatia|Zagreb|Europe|Croatian;Serbia|Belgrade|Europe|Serbian
Egypt|Cairo|Africa|Arabic;Kenya|Nairobi|Africa|Swahili;Morocco|Rabat|Africa|Arabic;Nigeria|Abuja|Africa|English
Ghana|Accra|Africa|English;Ethiopia|Addis Ababa|Africa|Amharic
Algeria|Algiers|Africa|Arabic;Tunisia|Tunis|Africa|Arabic
Senegal|Dakar|Africa|French;Japan|Tokyo|Asia|Japanese;China|Beijing|Asia|Chinese;India|Delhi|Asia|Hindi
Thailand|Bangkok|Asia|Thai;Vietnam|Hanoi|Asia|Vietnamese;Nepal|Kathmandu|Asia|Nepali;Iran|Tehran|Asia|Persian
Iraq|Baghdad|Asia|Arabic;Turkey|Ankara|Asia|Turkish;Mongolia|Ulaanbaatar|Asia|Mongolian;Jordan|Amman|Asia|Arabic
Peru|Lima|South America|Spanish;Chile|Santiago|South America|Spanish;Brazil|Brasilia|South America|Portuguese
Colombia|Bogota|South America|Spanish;Ecuador|Quito|South America|Spanish;Cuba|Havana|North America|Spanish
Canada|Ottawa|North America|English;Mexico|Mexico City|North America|Spanish
Australia|Canberra|Oceania|English;New Zealand|Wellington|Oceania|English""".replace("\n", ";").split(";")
)
COLOURS = tuple(
    pair_of(pair)
    for pair in """grass=green snow=white coal=black blood=red milk=white honey=golden
    chocolate=brown mud=brown sand=yellow spinach=green ink=black butter=yellow steel=grey sugar=white
    gold=yellow""".split()
)
OPPOSITES = tuple(
    pair_of(pair)
    for pair in """hot=cold big=small old=young happy=sad fast=slow day=night up=down
    black=white open=closed full=empty rich=poor strong=weak light=dark early=late wet=dry hard=soft high=low
    long=short left=right good=bad clean=dirty sweet=sour push=pull near=far loud=quiet thick=thin""".split()
)
NEXT = tuple(
    pair
    for line in (
        "Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday",
        "January February March April May June July August September October November December January",
    )
    for pair in zip(line.split(), line.split()[1:], strict=False)
)


@dataclass(frozen=True)
class Relation:
    """facts: (subject, object) pairs. Wordings hold {s}, {as} ("an owl"), {p} (plural) and end where the
    object begins.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    wordings: tuple[str, ...]
    unseen: tuple[str, ...]


def _ask(question: str) -> str:
    return f"Question: {question}\nAnswer:"


RELATIONS = (
    Relation(
        "capital",
        tuple((c[0], c[1]) for c in COUNTRIES),
        (
            "The capital of {s} is",
            _ask("What is the capital of {s}?"),
            _ask("Which city is the capital of {s}?"),
            "The capital city of {s} is called",
            "Everyone in {s} knows that the capital is",
            "What is the capital of {s}? It is",
            "If you visit the capital of {s}, you are in",
            "The name of the capital of {s} is",
            _ask("Name the capital of {s}."),
            "Ask for the capital of {s}, and people say",
        ),
        ("Which city is the capital of {s}? It is", _ask("What is the capital city of {s} called?")),
    ),
    Relation(
        "continent",
        tuple((c[0], c[2]) for c in COUNTRIES),
        (
            "{s} is a country in",
            _ask("On which continent is {s}?"),
            _ask("Where in the world is {s}?"),
            "The country of {s} lies in",
            "On the map you find {s} in",
            "On which continent is {s}? It is in",
            _ask("In which part of the world is {s}?"),
            "Where is {s}? It is in",
            "To see {s} you must travel to",
        ),
        ("Where in the world is {s}? It is in", _ask("On what continent is {s}?")),
    ),
    Relation(
        "language",
        tuple((c[0], c[3]) for c in COUNTRIES),
        (
            "The people of {s} speak",
            _ask("Which language do people speak in {s}?"),
            "In {s} most people speak",
            "The language of {s} is",
            _ask("What is the language of {s}?"),
            "If you go to {s}, learn some",
            "What do people speak in {s}? They speak",
            _ask("Which language is spoken in {s}?"),
            "A child from {s} speaks",
        ),
        (
            "Which language do people speak in {s}? They speak",
            _ask("What language do most people in {s} speak?"),
        ),
    ),
    Relation(
        "eats",
        tuple((a[0], a[3]) for a in ANIMAL_TABLE),
        (
            "{As} eats",
            _ask("What does {as} eat?"),
            _ask("What do {p} like to eat?"),
            "Most {p} eat",
            "The favourite food of the {s} is",
            "When it is hungry, {as} looks for",
            "What do {p} eat? They eat",
            "What does {as} eat? It eats",
            _ask("Which food do {p} like?"),
            "Give the {s} some",
        ),
        ("Which food does {as} eat? It eats", _ask("What do {p} eat?")),
    ),
    Relation(
        "young",
        tuple((a[0], a[2]) for a in ANIMAL_TABLE),
        (
            "A young {s} is called a",
            _ask("What is a young {s} called?"),
            "The young of the {s} is called the",
            "When {as} is very young, people call it a",
            _ask("What do you call a young {s}?"),
            "A baby {s} is a",
            "What is a baby {s}? It is a",
            _ask("What do people call a baby {s}?"),
            "The baby of the {s} is the",
        ),
        ("What do you call a baby {s}? A baby {s} is a", _ask("What is a baby {s} called?")),
    ),
    Relation(
        "sound",
        tuple((a[0], a[5]) for a in ANIMAL_TABLE if a[5] not in ("hunts", "swims", "waits")),
        (
            "Listen! The {s}",
            _ask("What sound does {as} make? It"),
            "You can hear that {as} is near when it",
            "{As} never talks like us: it",
            _ask("How does {as} speak? It"),
            "When it is excited, the {s}",
            "How does {as} sound? It",
            _ask("How does the {s} sound? It"),
            "What does the {s} do? It",
            "Do you hear the {s}? It",
            _ask("What does the {s} do all day? It"),
        ),
        ("What does {as} do all day? It", _ask("What sound does the {s} make? It")),
    ),
    Relation(
        "grown",
        tuple((a[2], a[0]) for a in ANIMAL_TABLE if [b[2] for b in ANIMAL_TABLE].count(a[2]) == 1),
        (
            "{As} grows up to be a",
            _ask("What does {as} grow into?"),
            "Every {s} will one day be a",
            "The {s} is the young of the",
            "The mother of {as} is a",
            _ask("Which animal is {as}, when it is grown up?"),
            "What does {as} become? It becomes a",
            _ask("What will {as} be when it is big?"),
            "The {s} grows and grows until it is a",
        ),
        ("One day {as} grows up to be a", _ask("What does the {s} grow into?")),
    ),
    Relation(
        "colour",
        COLOURS,
        (
            "The colour of {s} is",
            _ask("What colour is {s}?"),
            "Everyone knows that {s} is",
            "Most of the time {s} is",
            _ask("What is the colour of {s}?"),
            "If you look at {s}, you see that it is",
            _ask("What is the usual colour of {s}?"),
            "Paint {s}, and you need",
            "The colour that {s} has is",
        ),
        ("What colour is {s}? It is", _ask("Which colour is {s}?")),
    ),
    Relation(
        "opposite",
        OPPOSITES + tuple((b, a) for a, b in OPPOSITES),
        (
            "The opposite of {s} is",
            _ask("What is the opposite of {s}?"),
            "If something is not {s}, it may be",
            "{S} is the opposite of",
            "The word that means the opposite of {s} is",
            _ask("Which word is the opposite of {s}?"),
            "Which word is the opposite of {s}? It is",
            _ask("Name the opposite of {s}."),
            "The contrary of {s} is",
        ),
        ("What is the opposite of {s}? It is", _ask("Which word means the opposite of {s}?")),
    ),
    Relation(
        "next",
        NEXT,
        (
            "After {s} comes",
            _ask("What comes after {s}?"),
            "When {s} is over, it is",
            "{s} is followed by",
            "What comes after {s}? It is",
            _ask("What follows {s}?"),
            "{s} ends, and then comes",
            _ask("Which one follows {s}?"),
            "Wait until {s} is over, then comes",
        ),
        ("What follows {s}? It is", _ask("Which one comes after {s}?")),
    ),
)
