"""Conversations: a user asks the same exercises, and open questions about favourites; an assistant answers."""

from collections.abc import Callable
from functools import partial
from random import Random

from training.text import arithmetic, code, comprehension, facts
from training.text.french import FRENCH
from training.text.item import Item, article, capital
from training.text.openings import WITHOUT_ARTICLE
from training.text.spanish import SPANISH
from training.text.stories import ENGLISH
from training.text.words import CATEGORIES

USER, ASSISTANT, END = "<|user|>", "<|assistant|>", "<|end|>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The chat template of demo/chat, in Jinja."""

# {the}: the word with the article that its category takes; {w}: bare; {c}: the category.
FAVOURITES = (
    ("What is your favourite {c}?", "My favourite {c} is {the}."),
    ("What is your favourite {c}?", "It is {the}."),
    ("What is your favourite {c}?", "I like {the} best."),
    ("Which {c} do you like best?", "I like {the} best."),
    ("Which {c} do you like best?", "{The}."),
    ("Tell me your favourite {c}.", "My favourite {c} is {the}."),
    ("Do you have a favourite {c}?", "Yes, it is {the}."),
    ("Name a {c}.", "{Cap}."),
    ("Think of a {c}. Which one is it?", "It is {the}."),
    ("What do you dream of?", "I dream of {the}."),
    ("What shall we talk about?", "Let us talk about {the}."),
)
SMALL_TALK = (
    ("Hello!", "Hello! How can I help you?"),
    ("Good morning.", "Good morning! What would you like to know?"),
    ("Thank you.", "You are welcome."),
    ("Goodbye!", "Goodbye! Have a good day."),
    ("How are you?", "I am fine, thank you."),
    ("Who are you?", "I am a small model that answers questions."),
)


_SKILLS: tuple[Callable[[Random], Item], ...] = (
    arithmetic.training_item,
    facts.training_item,
    code.training_item,
    *(partial(comprehension.training_item, language=language) for language in (ENGLISH, FRENCH, SPANISH)),
)


def turn(question: str, answer: str) -> str:
    """One question and its answer; the answer is written as after a prompt, a space before it."""
    return f"{USER}{question}{END}{ASSISTANT} {answer.strip()}{END}"


def favourite(rng: Random) -> str:
    """A question with no fixed answer, and one of its answers."""
    category = "animal" if rng.random() < 0.25 else rng.choice(tuple(CATEGORIES))
    word = rng.choice(CATEGORIES[category])
    the = word if category in WITHOUT_ARTICLE else f"the {word}"
    slots = {"c": category, "the": the, "The": capital(the), "w": word, "Cap": capital(article(word))}
    question, answer = rng.choice(FAVOURITES)
    return turn(question.format(**slots), answer.format(**slots))


def exercise(rng: Random) -> str:
    """An exercise of any skill that is not held out."""
    item = rng.choice(_SKILLS)(rng)
    return turn(item.prompt, item.completion)


def document(rng: Random) -> str:
    """A conversation of a few turns."""
    turns = [favourite(rng) if rng.random() < 0.25 else exercise(rng) for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.1:
        turns.insert(rng.randint(0, len(turns)), turn(*rng.choice(SMALL_TALK)))
    return "".join(turns)
