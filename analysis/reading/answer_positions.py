"""The answer position of a word: where a model's logits are to predict it (METHODS §2).

A chat model answers in sentences: behind "What is the capital of France?" its first token is The, not Paris.
The position is then where its own greedy answer says the word, or another word of its kind.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from analysis.errors import HeadlampError, UnknownWord
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.generation import BASE, Sampling, generate_steps
from analysis.running.prompts import decode_answer, encode_conversation, is_rendered
from analysis.running.words import list_cases, stands_alone

LONGEST_ANSWER = 40
"""Tokens of the model's own answer that are searched for the word."""
_QUOTED = 80
"""Characters of an answer that a sentence quotes."""
_BYTES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")

Source = Literal["prefix", "own answer", "kind", "first"]


@dataclass(frozen=True)
class AnswerPosition:
    """A position at which a word is due. ids: token ids up to it; the last one's logits predict the word.

    conversation: what was asked, with the answer up to there as its answer prefix. source: the given answer
    prefix, where the model's own answer says the word or a word of its kind, or the first position after the
    prompt. said: why it is this position, a sentence.
    """

    conversation: Conversation
    ids: tuple[int, ...]
    source: Source
    said: str

    def __post_init__(self) -> None:
        if not self.ids:
            raise HeadlampError("an answer position needs at least one token before it; write a prompt")

    @property
    def position(self) -> int:
        """0-based in the fed sequence."""
        return len(self.ids) - 1


def find_answer_position(
    loaded: LoadedModel,
    conversation: Conversation,
    word: str,
    kind_words: Sequence[str] = (),
    *,
    fold_case: bool = False,
) -> AnswerPosition:
    """The answer position of a word; without an answer prefix a chat model first writes its own answer.

    kind_words: other words of its kind (for dog: cat, horse), looked for where the answer does not say it.
    fold_case: every case of the word counts alike; otherwise others are looked for after the case as typed.
    Raises UnknownWord for no word, else as `encode_conversation` and `generate_steps`.
    """
    given = _take_given(loaded, conversation, word)
    if given is not None:
        return given
    own = write_own_answer(loaded, conversation)
    return place_answer(loaded, conversation, own, word, kind_words, fold_case=fold_case)


def needs_own_answer(loaded: LoadedModel, conversation: Conversation) -> bool:
    """Whether the position depends on what the model answers: no answer prefix, and a chat template."""
    return not conversation.answer_prefix and is_rendered(loaded, conversation)


def write_own_answer(loaded: LoadedModel, conversation: Conversation) -> tuple[int, ...]:
    """The unchanged model's greedy answer, at most LONGEST_ANSWER token ids."""
    ids = encode_conversation(loaded, conversation)
    tokens = (step.tokens[BASE] for step in generate_steps(loaded, ids, (), Sampling(LONGEST_ANSWER)))
    return tuple(token for token in tokens if token is not None)


def place_answer(
    loaded: LoadedModel,
    conversation: Conversation,
    own: Sequence[int],
    word: str,
    kind_words: Sequence[str] = (),
    *,
    fold_case: bool = False,
) -> AnswerPosition:
    """The answer position of a word, from the model's own greedy answer (token ids; its first 40 count).

    The ids fed are the prompt's and those of the answer before the word, as the model wrote them.
    """
    given = _take_given(loaded, conversation, word)
    if given is not None:
        return given
    prompt = tuple(encode_conversation(loaded, conversation))
    answer = _before_end(loaded, own[:LONGEST_ANSWER])
    quoted = _quote(decode_answer(loaded, answer))
    typed = unicodedata.normalize("NFC", word.strip())
    others = [unicodedata.normalize("NFC", other.strip()) for other in kind_words]
    tries: tuple[tuple[Source, Sequence[str]], ...] = (
        ("own answer", () if fold_case else (typed,)),
        ("own answer", list_cases(typed)),
        ("kind", [form for other in others if other for form in (other, _capitalise(other))]),
    )
    for source, forms in tries:
        found = _find_whole_word(loaded, answer, forms)
        if found is None:
            continue
        start, form = found
        before = decode_answer(loaded, answer[:start])
        where = (
            "so the position before it is read" if start else "which is the first position after the prompt"
        )
        what = f"says {form}" if source == "own answer" else f"says {form}, a word of the kind of {typed}"
        return AnswerPosition(
            replace(conversation, answer_prefix=before),
            (*prompt, *answer[:start]),
            source,
            f"Its own answer, {quoted}, {what}, {where}.",
        )
    nothing = (
        "Its own answer is empty"
        if not answer
        else f"Its own answer, {quoted}, does not say {typed}"
        if not kind_words
        else f"Its own answer, {quoted}, says neither {typed} nor another word of its kind"
    )
    return AnswerPosition(
        conversation, prompt, "first", f"{nothing}, so the first position after the prompt is read."
    )


def _take_given(loaded: LoadedModel, conversation: Conversation, word: str) -> AnswerPosition | None:
    """The position that needs no answer of the model's own; None if it does."""
    if not word.strip():
        raise UnknownWord("no word given; type one, such as dog")
    if needs_own_answer(loaded, conversation):
        return None
    ids = tuple(encode_conversation(loaded, conversation))
    if conversation.answer_prefix:
        said = f"The answer begins with {_quote(conversation.answer_prefix)}; its last token is read."
        return AnswerPosition(conversation, ids, "prefix", said)
    why = "The prompt is fed raw" if conversation.raw else "The model has no chat template"
    said = f"{why}, so the first position after the prompt is read."
    return AnswerPosition(conversation, ids, "first", said)


def _before_end(loaded: LoadedModel, ids: Sequence[int]) -> tuple[int, ...]:
    """The tokens before the first that ends the text."""
    end = next((n for n, token in enumerate(ids) if token in loaded.ends_of_text), len(ids))
    return tuple(ids[:end])


def _find_whole_word(loaded: LoadedModel, ids: Sequence[int], forms: Iterable[str]) -> tuple[int, str] | None:
    """(place of the first token, form) of the earliest of these words that stands in tokens of its own.

    A leading space may be in the first token; other text may not, since no spelling of the word has it.
    """
    raw = [_bytes_of(loaded, token) for token in ids]
    bounds = [0, *accumulate(map(len, raw))]
    text = b"".join(raw).decode("utf-8", "surrogateescape")
    found: list[tuple[int, str]] = []
    for form in dict.fromkeys(forms):
        for match in re.finditer(re.escape(form), text):
            if not stands_alone(text, *match.span()):
                continue
            start, end = (len(text[:at].encode("utf-8", "surrogateescape")) for at in match.span())
            if start not in bounds and text[: match.start()].endswith(" "):
                start -= 1
            if start in bounds and end in bounds:
                found.append((max(n for n, at in enumerate(bounds[:-1]) if at == start), form))
                break
    return min(found, default=None)


def _bytes_of(loaded: LoadedModel, token: int) -> bytes:
    """A token's text in UTF-8; a line break for a special one."""
    vocabulary = loaded.vocabulary
    if token in vocabulary.special or token >= len(vocabulary):
        return b"\n"
    text = vocabulary.texts[token]
    if _BYTES.fullmatch(text):
        return bytes.fromhex(text.replace("<0x", "").replace(">", ""))
    return text.encode("utf-8", "surrogatepass")


def _capitalise(word: str) -> str:
    return word[:1].upper() + word[1:]


def _quote(text: str) -> str:
    line = " ".join(text.split())
    return f"“{line if len(line) <= _QUOTED else line[: _QUOTED - 1] + '…'}”"
