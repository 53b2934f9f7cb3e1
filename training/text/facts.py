"""Skill 2: true facts, (relation, subject) pairs. Training has every fact, but not every wording of it."""

from random import Random

from training.text.item import Item, article, capital, is_held_out
from training.text.knowledge import RELATIONS, Relation
from training.text.words import ANIMAL_TABLE

_PLURALS = {row[0]: row[1] for row in ANIMAL_TABLE}


def _wording(relation: Relation, key: str) -> str:
    return (relation.unseen if key.startswith("u") else relation.wordings)[int(key.lstrip("u"))]


def fact(relation: Relation, subject: str, value: str, wording: str) -> Item:
    """One fact in one wording; wording is an index, "u" before it for one never seen in training."""
    plural = _PLURALS.get(subject, subject)
    prompt = _wording(relation, wording).format(
        s=subject,
        S=capital(subject),
        p=plural,
        P=capital(plural),
        **{"as": article(subject), "As": capital(article(subject))},
    )
    completion = f" {value}" if prompt.endswith("Answer:") else f" {value}."
    return Item(
        prompt,
        completion,
        value,
        "substring",
        f"{relation.name}-{subject}".replace(" ", "-").lower(),
        f"{relation.name}-{wording}",
    )


def is_reserved(relation: Relation, subject: str, wording: str) -> bool:
    return wording.startswith("u") or is_held_out(f"{relation.name}-{subject}-{wording}")


def training_item(rng: Random) -> Item:
    while True:
        relation = rng.choice(RELATIONS)
        subject, value = rng.choice(relation.facts)
        wording = str(rng.randrange(len(relation.wordings)))
        if not is_reserved(relation, subject, wording):
            return fact(relation, subject, value, wording)


def document(rng: Random) -> str:
    return "\n\n".join(training_item(rng).text for _ in range(rng.randint(3, 9)))


def make_held_out(rng: Random, count: int) -> list[Item]:
    """Per fact its reserved known wordings (two at most) and one wording never seen in training."""
    facts = [(relation, *pair) for relation in RELATIONS for pair in relation.facts]
    rng.shuffle(facts)
    items: list[Item] = []
    for relation, subject, value in facts:
        known = [str(i) for i in range(len(relation.wordings)) if is_reserved(relation, subject, str(i))]
        if known and len(items) < count:
            wordings = rng.sample(known, min(2, len(known))) + [f"u{rng.randrange(len(relation.unseen))}"]
            items += [fact(relation, subject, value, w) for w in wordings]
    return items
