"""Short stories with questions in any language: the engine of skills 3, 5 and 6.

A sentence says who did what, the person first ("Tom saw a dog.") or last ("The one who saw a dog was Tom."),
and a question asks for the part named last: a model this small learns to read forward from a word, not
backward.
"""

from dataclasses import dataclass, field
from random import Random

from training.text.item import Item, is_held_out

PEOPLE = (
    1,
    2,
    2,
    2,
    3,
    3,
)  # this many per story; one alone teaches copying, held-out stories have two or more


@dataclass(frozen=True)
class Facet:
    """One attribute of a person. {n}: the person, {v}: the value. deed: what is said of the person."""

    name: str
    deed: str
    values: tuple[str, ...]
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    unseen: tuple[str, ...]

    def __post_init__(self) -> None:
        if min(len(self.statements), len(self.questions)) < 3:
            raise ValueError(f"facet {self.name} needs at least three wordings of statement and question")


@dataclass(frozen=True)
class Language:
    """Data common to all facets. person_last, who, who_unseen: {deed} is the facet's, {n} the person."""

    code: str
    skill: str
    names: tuple[str, ...]
    facets: tuple[Facet, ...]
    person_last: tuple[str, ...]
    who: tuple[str, ...]
    who_unseen: tuple[str, ...]
    openings: tuple[str, ...]
    fillers: tuple[str, ...]
    endings: tuple[str, ...]
    question: str
    answer: str
    slots: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Statement:
    """A person and a value, and whether the sentence names the person last."""

    facet: Facet
    person: str
    value: str
    person_last: bool

    def sentence(self, rng: Random, language: Language) -> str:
        if self.person_last:
            return self.put(rng.choice(language.person_last))
        return self.put(rng.choice(self.facet.statements))

    def put(self, template: str) -> str:
        """The template with {deed}, {n} and {v} filled in."""
        return template.replace("{deed}", self.facet.deed).format(n=self.person, v=self.value)

    def questions(self, language: Language, kind: str) -> tuple[str, ...]:
        """Questions about the part named last. kind: "q" as in training, "u" never seen there."""
        if self.person_last:
            return {"q": language.who, "u": language.who_unseen}[kind]
        return {"q": self.facet.questions, "u": self.facet.unseen}[kind]

    def wordings(self, language: Language, kind: str) -> list[str]:
        """Their names: the kind and a number."""
        return [f"{kind}{i}" for i in range(len(self.questions(language, kind)))]


@dataclass(frozen=True)
class Story:
    """text without questions; known: all statements about people."""

    text: str
    known: tuple[Statement, ...]


def pair_is_reserved(language: Language, facet: Facet, name: str, value: str) -> bool:
    """Whether training never combines this person with this value."""
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
    """A few people with statements about each. reserved: the first fact is never in training."""
    people, facets = _cast(rng, language, fewest=2 if reserved else 1)
    while reserved and not any(pair_is_reserved(language, facets[0], people[0], v) for v in facets[0].values):
        people, facets = _cast(rng, language, fewest=2)
    known: list[Statement] = []
    for facet in facets:
        taken: set[str] = set()
        person_last = rng.random() < 0.4
        for name in people:
            value = _value(rng, language, facet, name, taken, reserved and not known)
            known.append(Statement(facet, name, value, person_last))
    sentences = [told.sentence(rng, language) for told in rng.sample(known, len(known))]
    if plain:
        return Story(_join(sentences), tuple(known))
    for _ in range(rng.randint(0, 2)):
        sentences.insert(rng.randint(0, len(sentences)), fill(rng, language, rng.choice(language.fillers)))
    if rng.random() < 0.6:
        sentences.insert(0, fill(rng, language, rng.choice(language.openings)))
    if rng.random() < 0.4:
        sentences.append(fill(rng, language, rng.choice(language.endings)))
    return Story(_join(sentences), tuple(known))


def _join(sentences: list[str]) -> str:
    return " ".join(s[0].upper() + s[1:] for s in sentences)


def ask(language: Language, story: Story, which: int, wording: str, group: str) -> Item:
    """wording: "q2" a question that training knows, "u0" one that it never asks."""
    told = story.known[which]
    question = told.put(told.questions(language, wording[0])[int(wording[1:])])
    answer = told.person if told.person_last else told.value
    prompt = f"{story.text}\n{language.question} {question}\n{language.answer}"
    name = f"{told.facet.name}-{'who-' if told.person_last else ''}{wording}"
    return Item(prompt, f" {answer}", answer, "substring", group, name, language.code)


def _ask(rng: Random, language: Language, told: Story, which: int) -> Item:
    return ask(language, told, which, rng.choice(told.known[which].wordings(language, "q")), "")


def training_item(rng: Random, language: Language) -> Item:
    """A story that training may tell, and one of its questions."""
    told = story(rng, language)
    return _ask(rng, language, told, rng.randrange(len(told.known)))


def document(rng: Random, language: Language) -> str:
    """A story and its questions, each asked once: an answer is in the story, not in an earlier answer."""
    told = story(rng, language, plain=rng.random() < 0.5)
    return _page(
        told, [_ask(rng, language, told, i) for i in rng.sample(range(len(told.known)), len(told.known))]
    )


def recall(rng: Random, language: Language) -> str:
    """Retrieval practice: who has what, stated twice in different order, or what who has."""
    facet = rng.choice(language.facets)
    names = rng.sample(language.names, rng.randint(2, 6))
    taken: set[str] = set()
    values = [_value(rng, language, facet, name, taken, reserved=False) for name in names]
    pairs = list(zip(names, values, strict=True) if rng.random() < 0.5 else zip(values, names, strict=True))
    first, second = (
        ", ".join(f"{key}: {value}" for key, value in order)
        for order in (pairs, rng.sample(pairs, len(pairs)))
    )
    return f"{first}\n{language.answer} {second}"


def _page(told: Story, items: list[Item]) -> str:
    """The story once, then its questions and answers."""
    return items[0].text + "".join("\n\n" + item.text[len(told.text) + 1 :] for item in items[1:])


def make_held_out(rng: Random, language: Language, count: int) -> list[Item]:
    """Stories with a pair that training never tells, each asked in two known wordings and one never seen."""
    items: list[Item] = []
    number = 0
    while len(items) < count:
        told = story(rng, language, reserved=True)
        seen, unseen = (told.known[0].wordings(language, kind) for kind in "qu")
        wordings = [*rng.sample(seen, 2), rng.choice(unseen)]
        items += [ask(language, told, 0, w, f"{language.skill}-{number:03d}") for w in wordings]
        number += 1
    return items
