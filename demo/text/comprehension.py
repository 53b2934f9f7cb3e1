"""Short stories with questions, for any language: skills 3, 5 and 6 share this engine, each brings its own words."""

from dataclasses import dataclass, field
from random import Random

from demo.text.item import Item, is_held_out

PEOPLE = (1, 2, 2, 3)  # so many are in a story; one alone teaches to copy, held-out stories have two or more


@dataclass(frozen=True)
class Facet:
    """One thing to know about a person. {n}: the person, {v}: the value. `who` asks for the person instead."""

    name: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    unseen: tuple[str, ...]
    who: tuple[str, ...]

    def __post_init__(self) -> None:
        if min(len(self.statements), len(self.questions)) < 3:
            raise ValueError(f"facet {self.name} needs at least three wordings of statement and question")


@dataclass(frozen=True)
class Language:
    code: str
    skill: str
    names: tuple[str, ...]
    facets: tuple[Facet, ...]
    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    endings: tuple[str, ...]
    question: str
    answer: str
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Story:
    """text without questions; known: (facet, person, value) for everything that is told."""

    text: str
    known: tuple[tuple[Facet, str, str], ...]


def pair_is_reserved(language: Language, facet: Facet, name: str, value: str) -> bool:
    """Training never tells that this person has this value."""
    return is_held_out(f"{language.code}-{facet.name}-{name}-{value}")


def fill(rng: Random, language: Language, template: str) -> str:
    """Put a random word of language.slots into every {slot}."""
    return (
        template.format(**{slot: rng.choice(words) for slot, words in language.slots.items()})
        if "{" in template
        else template
    )


def _value(rng: Random, language: Language, facet: Facet, name: str, taken: set[str], reserved: bool) -> str:
    free = [
        v for v in facet.values if v not in taken and pair_is_reserved(language, facet, name, v) == reserved
    ]
    value = rng.choice(free)
    taken.add(value)
    return value


def _cast(rng: Random, language: Language, fewest: int) -> tuple[list[str], list[Facet]]:
    people = rng.choice([count for count in PEOPLE if count >= fewest])
    return rng.sample(language.names, people), rng.sample(language.facets, rng.randint(1, 2))


def story(rng: Random, language: Language, reserved: bool = False, plain: bool = False) -> Story:
    """A few people and what is told of each. reserved: the first fact is one that training never tells.
    plain: the facts and nothing around them."""
    people, facets = _cast(rng, language, fewest=2 if reserved else 1)
    while reserved and not any(pair_is_reserved(language, facets[0], people[0], v) for v in facets[0].values):
        people, facets = _cast(rng, language, fewest=2)
    known: list[tuple[Facet, str, str]] = []
    sentences: list[str] = []
    for facet in facets:
        taken: set[str] = set()
        for name in people:
            value = _value(rng, language, facet, name, taken, reserved and not known)
            known.append((facet, name, value))
            sentences.append(rng.choice(facet.statements).format(n=name, v=value))
    rng.shuffle(sentences)
    if plain:
        return Story(_joined(sentences), tuple(known))
    for _ in range(rng.randint(0, 2)):
        sentences.insert(rng.randint(0, len(sentences)), fill(rng, language, rng.choice(language.fillers)))
    if rng.random() < 0.6:
        sentences.insert(0, fill(rng, language, rng.choice(language.openings)))
    if rng.random() < 0.4:
        sentences.append(fill(rng, language, rng.choice(language.endings)))
    return Story(_joined(sentences), tuple(known))


def _joined(sentences: list[str]) -> str:
    return " ".join(s[0].upper() + s[1:] for s in sentences)


def ask(language: Language, story: Story, which: int, wording: str, group: str) -> Item:
    """wording: "q2" a known question, "u0" one never seen in training, "w1" asks who."""
    facet, name, value = story.known[which]
    table = {"q": facet.questions, "u": facet.unseen, "w": facet.who}[wording[0]]
    question = table[int(wording[1:])].format(n=name, v=value)
    answer = name if wording[0] == "w" else value
    prompt = f"{story.text}\n{language.question} {question}\n{language.answer}"
    return Item(prompt, f" {answer}", answer, "substring", group, f"{facet.name}-{wording}", language.code)


def _known_wordings(facet: Facet) -> list[str]:
    return [f"q{i}" for i in range(len(facet.questions))] + [f"w{i}" for i in range(len(facet.who))]


def document(rng: Random, language: Language) -> str:
    """A story and several of its questions."""
    told = story(rng, language)
    asked = rng.sample(range(len(told.known)), min(len(told.known), rng.randint(2, 6)))
    items = [ask(language, told, i, rng.choice(_known_wordings(told.known[i][0])), "") for i in asked]
    return _page(told, items)


def drill(rng: Random, language: Language) -> str:
    """A story and most of its questions, about the value and about the person alike: more answers per word."""
    told = story(rng, language, plain=rng.random() < 0.6)
    ways = [(i, way) for i in range(len(told.known)) for way in "qw"]
    items = []
    for i, way in rng.sample(ways, min(len(ways), rng.randint(4, 8))):
        wordings = [w for w in _known_wordings(told.known[i][0]) if w[0] == way]
        items.append(ask(language, told, i, rng.choice(wordings), ""))
    return _page(told, items)


def recall(rng: Random, language: Language) -> str:
    """Who has what, said twice in different order: the shortest lesson in keeping people and things together."""
    facet = rng.choice(language.facets)
    names = rng.sample(language.names, rng.randint(2, 5))
    taken: set[str] = set()
    values = {name: _value(rng, language, facet, name, taken, reserved=False) for name in names}
    again = rng.sample(names, len(names))
    if rng.random() < 0.5:
        first, second = (", ".join(f"{name}: {values[name]}" for name in order) for order in (names, again))
    else:
        first, second = (
            _joined([rng.choice(facet.statements).format(n=name, v=values[name]) for name in order])
            for order in (names, again)
        )
    return f"{first}\n{language.answer} {second}"


def _page(told: Story, items: list[Item]) -> str:
    """The story once, then its questions and answers."""
    return items[0].text + "".join("\n\n" + item.text[len(told.text) + 1 :] for item in items[1:])


def held_out(rng: Random, language: Language, count: int) -> list[Item]:
    """Stories with a pair that training never tells, each asked in two known wordings and one never seen."""
    items: list[Item] = []
    number = 0
    while len(items) < count:
        told = story(rng, language, reserved=True)
        facet = told.known[0][0]
        wordings = rng.sample(_known_wordings(facet), 2) + [f"u{rng.randrange(len(facet.unseen))}"]
        items += [ask(language, told, 0, w, f"{language.skill}-{number:03d}") for w in wordings]
        number += 1
    return items
