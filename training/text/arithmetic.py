"""Skill 1: word problems with sums, differences and small times tables, worked out before the answer."""

from random import Random

from training.text.item import Item, is_held_out
from training.text.words import pick_people

THINGS = tuple(
    """apples pears plums lemons oranges bananas cherries eggs cakes coins stamps books pens shells stones
    marbles balls cards buttons flowers roses fish birds dogs cats horses cows sheep ducks hens beads nuts
    keys boxes toys kites hats bottles candles tickets""".split()
)
HOLDERS = tuple("boxes bags baskets rows shelves jars trays tables plates teams".split())

# {a}, {b}: numbers; {n}, {m}: people; {t}: things; {h}: holders. The wordings of UNSEEN never occur in training.
WORDINGS: dict[str, tuple[str, ...]] = {
    "add": (
        "{n} has {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have now?",
        "{n} had {a} {t} and found {b} more. How many {t} does {n} have in all?",
        "There are {a} {t} on the table and {b} {t} on the floor. How many {t} are there in total?",
        "{n} has {a} {t} and {m} has {b} {t}. How many {t} do they have together?",
        "{n} collected {a} {t} on Monday and {b} {t} on Tuesday. How many {t} did {n} collect altogether?",
        "{n} bought {a} {t}. Then {n} bought {b} more {t}. How many {t} did {n} buy in total?",
        "A shop had {a} {t}. A lorry brought {b} more. How many {t} does the shop have now?",
        "In the garden {n} counted {a} {t}. Later {n} counted {b} more. What is the total number of {t}?",
        "{a} {t} are in a box. {n} puts {b} more in the box. How many {t} are in the box now?",
        "What is the sum of {a} and {b}?",
        "{m} and {n} put their {t} together. {m} has {a} and {n} has {b}. How many {t} is that altogether?",
    ),
    "sub": (
        "{n} has {a} {t}. {n} gives {b} of them to {m}. How many {t} does {n} have left?",
        "{n} had {a} {t} and lost {b}. How many {t} are left?",
        "There were {a} {t} in the box. {n} took {b} away. How many {t} are still in the box?",
        "{n} has {a} {t}. {m} has {b} fewer. How many {t} does {m} have?",
        "A shop had {a} {t} and sold {b} of them. How many {t} remain?",
        "{n} needs {a} {t} and already has {b}. How many more {t} does {n} need?",
        "{n} picked {a} {t}. {m} ate {b} of them. How many {t} are left?",
        "{a} {t} were on the table. {b} of them fell down. How many {t} are still on the table?",
        "{n} has {a} {t} and {m} has {b} {t}. How many more {t} does {n} have than {m}?",
        "What is {a} minus {b}?",
        "{n} had {a} {t}. On Monday {n} sold {b} of them. How many {t} remain?",
    ),
    "mul": (
        "There are {a} {h} with {b} {t} in each. How many {t} are there in total?",
        "{n} has {a} {h}. Each of the {h} holds {b} {t}. How many {t} does {n} have?",
        "{n} fills {a} {h} with {b} {t} each. How many {t} is that in all?",
        "{n} buys {b} {t} a day for {a} days. How many {t} does {n} buy in total?",
        "{a} friends bring {b} {t} each. How many {t} do they bring together?",
        "A shop sells {t} in {h} of {b}. {n} buys {a} {h}. How many {t} does {n} get?",
        "What is {a} times {b}?",
        "{n} puts {b} {t} in each of {a} {h}. How many {t} does {n} put away?",
        "Each day {n} finds {b} {t}. How many {t} does {n} find in {a} days?",
        "{n} sees {a} {h}. There are {b} {t} in each. How many {t} does {n} see?",
    ),
}
UNSEEN: dict[str, tuple[str, ...]] = {
    "add": (
        "{n} found {a} {t}. {m} gives {n} {b} more. How many {t} does {n} have in all?",
        "A shop had {a} {t} and bought {b} more. How many {t} are there in total?",
    ),
    "sub": (
        "{n} bought {a} {t}. {n} lost {b} of them. How many {t} does {n} have left?",
        "{m} had {a} {t} and gives {b} of them to {n}. How many {t} are left?",
    ),
    "mul": (
        "{n} buys {a} {h}. Each of the {h} holds {b} {t}. How many {t} is that in all?",
        "{n} fills {a} {h}. There are {b} {t} in each. How many {t} does {n} have?",
    ),
}
SIGNS = {"add": "+", "sub": "-", "mul": "*"}


def result(operation: str, a: int, b: int) -> int:
    return {"add": a + b, "sub": a - b, "mul": a * b}[operation]


def numbers(rng: Random, operation: str) -> tuple[int, int]:
    """Sums and differences of numbers up to 99, never negative; times tables up to 10."""
    if operation == "mul":
        return rng.randint(2, 10), rng.randint(2, 10)
    a, b = rng.randint(1, 99), rng.randint(1, 9 if rng.random() < 0.3 else 99)
    if operation == "sub":
        return max(a, b), min(a, b)
    return a, b


def work_out(operation: str, a: int, b: int) -> str:
    """The steps, tens first, the result last: "47 + 30 = 77, 77 + 8 = 85"; one step where one is enough."""
    tens, ones = b - b % 10, b % 10
    sign, final = SIGNS[operation], result(operation, a, b)
    if operation == "mul" or not tens or not ones:
        return f"{a} {sign} {b} = {final}"
    half = result(operation, a, tens)
    return f"{a} {sign} {tens} = {half}, {half} {sign} {ones} = {final}"


def is_reserved(operation: str, a: int, b: int, wording: str) -> bool:
    """Pairs with two steps are reserved as a whole; of one-step problems only the wordings are."""
    one_step = operation == "mul" or b < 10 or b % 10 == 0
    return is_held_out(f"{operation}-{a}-{b}" + (f"-{wording}" if one_step else ""))


def problem(rng: Random, operation: str, a: int, b: int, wording: str) -> Item:
    """wording: an index into WORDINGS[operation], or "u" and one into UNSEEN[operation]."""
    unseen = wording.startswith("u")
    template = (UNSEEN if unseen else WORDINGS)[operation][int(wording.lstrip("u"))]
    n, m = pick_people(rng, 2)
    question = template.format(a=a, b=b, n=n, m=m, t=rng.choice(THINGS), h=rng.choice(HOLDERS))
    answer = str(result(operation, a, b))
    return Item(
        f"{question}\nAnswer:",
        f" {work_out(operation, a, b)}",
        answer,
        "number",
        f"{operation}-{a}-{b}",
        f"{operation}-{wording}",
    )


def training_item(rng: Random) -> Item:
    while True:
        operation = rng.choice(("add", "sub", "mul", "add", "sub"))
        a, b = numbers(rng, operation)
        wording = str(rng.randrange(len(WORDINGS[operation])))
        if not is_reserved(operation, a, b, wording):
            return problem(rng, operation, a, b, wording)


def document(rng: Random) -> str:
    """A few problems, or a page of bare sums for practice; reserved pairs never occur."""
    if rng.random() < 0.35:
        return "\n".join(_bare_sum(rng) for _ in range(rng.randint(3, 8)))
    return "\n\n".join(training_item(rng).text for _ in range(rng.randint(1, 4)))


def _bare_sum(rng: Random) -> str:
    operation = rng.choice(("add", "sub", "mul"))
    a, b = numbers(rng, operation)
    while b > 9 and is_reserved(operation, a, b, ""):
        a, b = numbers(rng, operation)
    steps = work_out(operation, a, b)
    return steps if rng.random() < 0.5 else f"{a} {SIGNS[operation]} {b}\nAnswer: {steps}"


def drill(rng: Random) -> str:
    """Word problems and bare sums with numbers that require telling apart one and two steps."""
    parts = []
    for _ in range(rng.randint(3, 6)):
        operation = rng.choice(("add", "sub", "mul"))
        a, b = numbers(rng, operation)
        if operation != "mul" and rng.random() < 0.3:
            b = 10 * rng.randint(1, 9)
            a = rng.randint(b, 99)
        wording = str(rng.randrange(len(WORDINGS[operation])))
        if is_reserved(operation, a, b, wording):
            continue
        if rng.random() < 0.6:
            parts.append(problem(rng, operation, a, b, wording).text)
        else:
            parts.append(f"{a} {SIGNS[operation]} {b}\nAnswer: {work_out(operation, a, b)}")
    return "\n\n".join(parts) or document(rng)


def make_held_out(rng: Random, count: int) -> list[Item]:
    """At least `count` items: per group two known wordings with reserved numbers and one wording never seen."""
    items: list[Item] = []
    seen: set[str] = set()
    while len(items) < count:
        operation = rng.choice(("add", "sub", "mul"))
        a, b = numbers(rng, operation)
        known = [str(i) for i in range(len(WORDINGS[operation])) if is_reserved(operation, a, b, str(i))]
        if f"{operation}-{a}-{b}" in seen or not known:
            continue
        seen.add(f"{operation}-{a}-{b}")
        wordings = rng.sample(known, min(2, len(known))) + [f"u{rng.randrange(len(UNSEEN[operation]))}"]
        items += [problem(rng, operation, a, b, w) for w in wordings]
    return items
