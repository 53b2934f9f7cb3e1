"""Questions about concepts to be removed, as JSON: what a job needs to answer them anywhere."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.errors import HeadlampError, SkillError, TextError, UnknownWord
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from analysis.running.conversations import Conversation, read_conversation, write_conversation
from analysis.running.prompts import encode_conversation
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD, check_noise, check_threshold
from analysis.unlearning.edits.tars_search import GOAL, MOST_KL, check_bounds

MOST_PROMPTS = 64
"""Largest number of prompts of one kind: each is answered before and after."""
MOST_CONCEPTS = 20
"""Largest number of concepts in one sequence."""
STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in is "
    "it its may me my no not of on or our she should so than that the their them then there they this to us "
    "was we were what when where which who why will with would yes you your".split()
)
"""Words that any text needs, so that without them nothing can be said."""


@dataclass(frozen=True)
class Concept:
    """A word of one token. prompts: to aim with, those it is due after; held_out: other wordings, languages:
    in other languages; both only measured. synonyms: texts that would say the same.
    """

    word: str
    prompts: tuple[Conversation, ...]
    held_out: tuple[Conversation, ...] = ()
    languages: tuple[Conversation, ...] = ()
    synonyms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise UnknownWord("no concept given; type one word, such as Paris")
        if not self.prompts:
            raise TextError(f"there is no prompt that leads to {self.word.strip()!r}; give one with --prompt")
        for name, prompts in (("to aim with", self.prompts), ("to report on", self.measured)):
            if len(prompts) > MOST_PROMPTS:
                raise TextError(f"{len(prompts)} prompts {name}: give at most {MOST_PROMPTS}")
        both = [one for one in self.measured if one in self.prompts]
        if both:
            raise TextError(
                f"the prompt {both[0].prompt[:48]!r} is both to aim with and to report on, so what is "
                "reported would be what was aimed at; give other held-out prompts"
            )

    @property
    def measured(self) -> tuple[Conversation, ...]:
        """Prompts that are only measured."""
        return (*self.held_out, *self.languages)

    def document(self) -> dict[str, Any]:
        """As JSON; `read_concept` reads it."""
        return {
            "concept": self.word.strip(),
            "prompts": _write(self.prompts),
            "held_out": _write(self.held_out),
            "languages": _write(self.languages),
            "synonyms": list(self.synonyms),
        }


@dataclass(frozen=True)
class ConceptQuestion:
    """Concepts to be removed one after the other. other: prompts whose answers are to stay as they are.

    edits: most vectors of one concept; goal: P at which it counts as removed; max_kl: nats; head_rows:
    whether rows of the LM head may be among the vectors.
    """

    concepts: tuple[Concept, ...]
    other: tuple[Conversation, ...] = ()
    edits: int = MOST_EDITS
    threshold: float = THRESHOLD
    noise: float = NOISE
    goal: float = GOAL
    max_kl: float = MOST_KL
    head_rows: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        words = [one.word.strip().casefold() for one in self.concepts]
        if not words:
            raise UnknownWord("no concept given; type one word, such as Paris")
        if len(words) > MOST_CONCEPTS:
            raise SkillError(f"{len(words)} concepts: give at most {MOST_CONCEPTS}")
        twice = [word for word in words if words.count(word) > 1]
        if twice:
            raise SkillError(f"the concept {twice[0]!r} is given twice; give each once")
        if len(self.other) > MOST_PROMPTS:
            raise TextError(f"{len(self.other)} other prompts: give at most {MOST_PROMPTS}")
        check_bounds(self.edits, self.goal, self.max_kl)
        check_noise(self.noise)
        check_threshold(self.threshold, head_rows=self.head_rows)

    def document(self) -> dict[str, Any]:
        """As JSON: the parameters of a job. The first concept's are those of a question with one alone."""
        first, *then = (one.document() for one in self.concepts)
        how = {name: getattr(self, name) for name in HOW}
        return {**first, "then": then, "other": _write(self.other), **how}


HOW = ("edits", "threshold", "noise", "goal", "max_kl", "head_rows", "seed")
DEFAULTS: dict[str, Any] = {
    "held_out": [],
    "languages": [],
    "synonyms": [],
    "then": [],
    "other": [],
    "goal": GOAL,
    "max_kl": MOST_KL,
    "head_rows": True,
}
"""Parameters that jobs of earlier versions do not have."""


def read_concept_question(document: Mapping[str, Any]) -> ConceptQuestion:
    """The question of `ConceptQuestion.document`, of earlier versions too. HeadlampError if incomplete."""
    given = {**DEFAULTS, **document}
    try:
        concepts = tuple(_read_concept(one) for one in (given, *given["then"]))
        return ConceptQuestion(concepts, _read(given["other"]), **{name: given[name] for name in HOW})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadlampError(
            f"this question is not complete enough to be asked again: {type(error).__name__} {error}"
        ) from error


def _read_concept(document: Mapping[str, Any]) -> Concept:
    prompts, held_out, languages = (_read(document[name]) for name in ("prompts", "held_out", "languages"))
    return Concept(document["concept"], prompts, held_out, languages, tuple(map(str, document["synonyms"])))


def _write(prompts: Sequence[Conversation]) -> list[Any]:
    """Each as its text if there is nothing else, as in earlier versions."""
    return [one.prompt if one == Conversation(one.prompt) else write_conversation(one) for one in prompts]


def _read(prompts: Sequence[Any]) -> tuple[Conversation, ...]:
    return tuple(Conversation(one) if isinstance(one, str) else read_conversation(one) for one in prompts)


def check_words(loaded: LoadedModel, asked: ConceptQuestion) -> None:
    """Refuse what needs no computing to be refused: words that cannot be removed, and prompts that say them.

    Raises UnknownWord, TextError, PromptTooLong, SkillError.
    """
    for concept in asked.concepts:
        word = unicodedata.normalize("NFC", concept.word.strip())
        if word.casefold() in STOP_WORDS:
            raise UnknownWord(
                f"{word!r} is a word that any text needs: without it the model can say nothing; name a "
                "concept, such as Paris"
            )
        find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
        for prompt in (*concept.prompts, *concept.measured):
            encode_conversation(loaded, prompt)
            _refuse_said(prompt, word)
    for prompt in asked.other:
        encode_conversation(loaded, prompt)


def _refuse_said(prompt: Conversation, word: str) -> None:
    """Refuse a prompt that contains the concept: the model would repeat it from there."""
    texts = (prompt.prompt, prompt.answer_prefix, prompt.system, *(said for _, said in prompt.turns))
    for text in texts:
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", unicodedata.normalize("NFC", text), re.IGNORECASE):
            raise TextError(
                f"the prompt {prompt.prompt[:48]!r} contains {word!r} itself, which the model could "
                "repeat; ask for it in other words"
            )
