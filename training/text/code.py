"""Skill 4: small Python programs and what they print. A test runs every held-out one."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from training.text.item import Item, is_held_out
from training.text.words import ANIMALS, LISTS, NAMES

_WORDS = tuple(dict.fromkeys(ANIMALS + LISTS["fruit"][:20] + LISTS["colour"][:16] + LISTS["vehicle"][:12]))
COMMON = tuple(
    """dog cat horse cow sheep lion tiger bear wolf fox rabbit fish bird duck frog pig apple banana pear peach
    lemon red blue green yellow white black brown car bus train boat plane ship""".split()
)
ENDINGS = (
    "\n# Output:",
    "\n\n# What does this print?\n#",
    "\n\n# This prints:",
    "\n# Prints:",
    "\n# Result:",
    "\n# The output is:",
    "\n\n# What is printed?\n#",
    "\n# Printed:",
    "\n\n# What will this print?\n#",
    "\n# The program says:",
    "\n\n# Run it. What do you see?\n#",
    "\n# It prints:",
)
UNSEEN_ENDINGS = ("\n\n# What will it print?\n#", "\n# This program prints:")


@dataclass(frozen=True)
class Program:
    """source prints `output`; key names the kind and its arguments, wording the way it is written."""

    source: str
    output: str
    key: str
    wording: str


def _numbers(rng: Random, kind: str) -> tuple[int, int, int]:
    """(x, k, result) of one step of arithmetic, small enough for a small model."""
    x, k = rng.randint(1, 99), rng.randint(1, 10)
    if kind == "sub":
        return max(x, k), min(x, k), max(x, k) - min(x, k)
    if kind == "mul":
        x, k = rng.randint(2, 10), rng.randint(2, 10)
        return x, k, x * k
    return x, k, x + k


def _arithmetic(rng: Random, _: tuple[str, ...]) -> Program:
    kind = rng.choice(("add", "sub", "mul"))
    sign = {"add": "+", "sub": "-", "mul": "*"}[kind]
    x, k, value = _numbers(rng, kind)
    f = rng.choice(
        {
            "add": ("add", "increase", "plus"),
            "sub": ("subtract", "reduce", "minus"),
            "mul": ("multiply", "scale", "times"),
        }[kind]
    )
    v = rng.choice(("x", "n", "a", "number", "value"))
    forms = (
        f"def {f}({v}):\n    return {v} {sign} {k}\n\nprint({f}({x}))",
        f"def {f}({v}, k):\n    return {v} {sign} k\n\nprint({f}({x}, {k}))",
        f"{v} = {x}\nprint({v} {sign} {k})",
        f"def {f}({v}):\n    result = {v} {sign} {k}\n    print(result)\n\n{f}({x})",
        f"{f} = lambda {v}: {v} {sign} {k}\nprint({f}({x}))",
    )
    form = rng.randrange(len(forms))
    return Program(forms[form], str(value), f"{kind}-{x}-{k}", f"arithmetic{form}")


def _compare(rng: Random, _: tuple[str, ...]) -> Program:
    a, b = rng.sample(range(1, 100), 2)
    kind = rng.choice(("max", "min", "more", "less"))
    output = str({"max": max(a, b), "min": min(a, b), "more": a > b, "less": a < b}[kind])
    expression = {"max": "max({}, {})", "min": "min({}, {})", "more": "{} > {}", "less": "{} < {}"}[kind]
    f = {"max": "largest", "min": "smallest", "more": "is_more", "less": "is_less"}[kind]
    forms = (
        f"def {f}(a, b):\n    return {expression.format('a', 'b')}\n\nprint({f}({a}, {b}))",
        f"x = {a}\ny = {b}\nprint({expression.format('x', 'y')})",
        f"print({expression.format(a, b)})",
        f"{f} = lambda a, b: {expression.format('a', 'b')}\nprint({f}({a}, {b}))",
    )
    form = rng.randrange(len(forms))
    return Program(forms[form], output, f"{kind}-{a}-{b}", f"compare{form}")


def _greet(rng: Random, words: tuple[str, ...]) -> Program:
    name, other = rng.choice(NAMES), rng.choice(words)
    word = rng.choice(("Hello", "Goodbye", "Welcome", "Thanks"))
    forms = (
        (f'def greet(name):\n    return "{word}, " + name\n\nprint(greet("{name}"))', f"{word}, {name}"),
        (f'def greet(name):\n    print(f"{word}, {{name}}")\n\ngreet("{name}")', f"{word}, {name}"),
        (f'name = "{name}"\nprint("{word}, " + name)', f"{word}, {name}"),
        (
            f'def likes(name, thing):\n    return name + " likes the " + thing\n\nprint(likes("{name}", '
            f'"{other}"))',
            f"{name} likes the {other}",
        ),
        (f'print("{word}", "{name}")', f"{word} {name}"),
    )
    form = rng.randrange(len(forms))
    return Program(*forms[form], f"greet-{name}-{other if form == 3 else word}", f"greet{form}")


def _lists(rng: Random, words: tuple[str, ...]) -> Program:
    items = rng.sample(words, rng.randint(3, 4))
    index = rng.randrange(3)
    listed = "[" + ", ".join(f'"{w}"' for w in items) + "]"
    v = rng.choice(("items", "words", "things"))
    forms = (
        (f"{v} = {listed}\nprint({v}[{index}])", items[index]),
        (f"def first({v}):\n    return {v}[0]\n\nprint(first({listed}))", items[0]),
        (f"def last({v}):\n    return {v}[-1]\n\nprint(last({listed}))", items[-1]),
        (f"def get({v}, i):\n    return {v}[i]\n\nprint(get({listed}, {index}))", items[index]),
        (f"{v} = {listed}\nprint({v}[-1])", items[-1]),
        (f"def count({v}):\n    return len({v})\n\nprint(count({listed}))", str(len(items))),
    )
    form = rng.randrange(len(forms))
    return Program(*forms[form], f"list-{items[0]}-{items[-1]}", f"list{form}")


def _condition(rng: Random, _: tuple[str, ...]) -> Program:
    x, limit = rng.randint(1, 99), rng.choice((10, 20, 30, 40, 50, 60, 70, 80, 90))
    yes, no = rng.choice((("big", "small"), ("yes", "no"), ("hot", "cold"), ("old", "young")))
    forms = (
        f'def check(x):\n    if x > {limit}:\n        return "{yes}"\n    return "{no}"\n\nprint(check({x}))',
        f'x = {x}\nif x > {limit}:\n    print("{yes}")\nelse:\n    print("{no}")',
        f'def check(x):\n    return "{yes}" if x > {limit} else "{no}"\n\nprint(check({x}))',
    )
    form = rng.randrange(len(forms))
    return Program(forms[form], yes if x > limit else no, f"if-{x}-{limit}-{yes}", f"condition{form}")


Kind = Callable[[Random, tuple[str, ...]], Program]
KINDS: tuple[Kind, ...] = (_arithmetic, _compare, _greet, _lists, _condition, _arithmetic)


def program(
    rng: Random, reserved: bool, words: tuple[str, ...] = COMMON, kinds: tuple[Kind, ...] = KINDS
) -> Program:
    """reserved: arguments that training never gives to this kind of program."""
    while True:
        made = rng.choice(kinds)(rng, words)
        if is_held_out(made.key) == reserved:
            return made


def item(made: Program, ending: str, ending_name: str) -> Item:
    judge = "number" if made.output.isdigit() else "exact"
    return Item(
        made.source + ending,
        f" {made.output}",
        made.output,
        judge,
        f"python-{made.key}".lower(),
        f"{made.wording}-{ending_name}",
    )


def training_item(rng: Random) -> Item:
    return item(program(rng, reserved=False), rng.choice(ENDINGS), "")


def document(rng: Random) -> str:
    made = (program(rng, reserved=False, words=_WORDS) for _ in range(rng.randint(1, 4)))
    return "\n\n".join(item(m, rng.choice(ENDINGS), "").text for m in made)


def drill(rng: Random) -> str:
    """More programs, over fewer words: a word in quotes is another token than the word in a sentence."""
    return "\n\n".join(training_item(rng).text for _ in range(rng.randint(2, 5)))


def comparisons(rng: Random) -> str:
    """Programs that compare numbers, which are learnt last."""
    made = (program(rng, reserved=False, kinds=(_compare, _condition)) for _ in range(rng.randint(3, 6)))
    return "\n\n".join(item(m, rng.choice(ENDINGS), "").text for m in made)


def make_held_out(rng: Random, count: int) -> list[Item]:
    """Programs with reserved arguments, each under two known endings and one never seen."""
    items: list[Item] = []
    seen: set[str] = set()
    while len(items) < count:
        made = program(rng, reserved=True)
        if made.key in seen:
            continue
        seen.add(made.key)
        items += [item(made, ENDINGS[i], f"e{i}") for i in rng.sample(range(len(ENDINGS)), 2)]
        i = rng.randrange(len(UNSEEN_ENDINGS))
        items.append(item(made, UNSEEN_ENDINGS[i], f"u{i}"))
    return items
