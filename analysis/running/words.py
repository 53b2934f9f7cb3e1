"""The probability that a text goes on with a word, over its spellings and their pieces (METHODS §2).

    P(word) = Σ over spellings of Π over pieces of p(piece | text, pieces before it)

A spelling is the word with or without a leading space, case as typed, as the tokenizer splits it behind the
prompt; the same tokens count once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from analysis.errors import UnknownWord
from analysis.opening.models import LoadedModel
from analysis.running.conversations import Conversation
from analysis.running.differences import join_tokens
from analysis.running.prompts import encode_written, write_prompt

LONGEST = 32
"""How many pieces a word may have."""

_ANCHORS = ("\n", ".", "(", "a")
"""Texts behind which a spelling is tokenised where it would merge with the prompt's end."""


@dataclass(frozen=True)
class Spelling:
    """One way of writing a word: its text, and its pieces as token ids."""

    text: str
    token_ids: tuple[int, ...]


def list_spellings(loaded: LoadedModel, conversation: Conversation, word: str) -> tuple[Spelling, ...]:
    """The spellings of a word behind a prompt, without a leading space first.

    Raises UnknownWord for no word, one that the vocabulary cannot write, a special token, and one of more
    than LONGEST pieces.
    """
    bare = unicodedata.normalize("NFC", word.strip())
    if not bare:
        raise UnknownWord("no word given; type one, such as dog")
    found: dict[tuple[int, ...], Spelling] = {}
    for text in (bare, f" {bare}"):
        ids = _split(loaded, conversation, text)
        if ids:
            found.setdefault(ids, Spelling(text, ids))
    if not found:
        raise UnknownWord(
            f"{bare!r} is not text that this model's tokens can write; give another word, such as dog"
        )
    longest = max(len(ids) for ids in found)
    if longest > LONGEST:
        raise UnknownWord(f"{bare[:40]!r} has {longest} tokens; give a word of at most {LONGEST}")
    return tuple(found.values())


def _split(loaded: LoadedModel, conversation: Conversation, text: str) -> tuple[int, ...] | None:
    """The pieces of exactly this text: as behind the prompt, else alone, else behind another text."""
    texts, special = loaded.vocabulary.texts, loaded.vocabulary.special
    for ids in _try_splits(loaded, conversation, text):
        known = all(i < len(texts) and i not in special for i in ids)
        if ids and known and join_tokens([texts[i] for i in ids]) == text:
            return tuple(ids)
    return (texts.index(text),) if text in texts and texts.index(text) not in special else None


def _try_splits(loaded: LoadedModel, conversation: Conversation, text: str) -> Iterator[list[int]]:
    written = write_prompt(loaded, conversation)
    prompt = encode_written(loaded, written, conversation)
    whole = encode_written(loaded, written + text, conversation)
    if whole[: len(prompt)] == prompt:
        yield whole[len(prompt) :]
    encode = loaded.tokenizer.encode
    yield [int(i) for i in encode(text, add_special_tokens=False)]
    for anchor in _ANCHORS:
        before = encode(anchor, add_special_tokens=False)
        behind = encode(anchor + text, add_special_tokens=False)
        if behind[: len(before)] == before:
            yield [int(i) for i in behind[len(before) :]]


def read_word_probability(
    log_probabilities: Tensor,
    spellings: Sequence[Sequence[int]],
    read_ahead: Callable[[Sequence[int]], Tensor],
) -> tuple[float, ...]:
    """P(word) of each row of log-probabilities (rows, V) at one position; each in [0, 1].

    read_ahead: (rows, n, V) log-probabilities after each of n pieces, fed to every row; used for spellings
    of several pieces alone.
    """
    total = [0.0] * len(log_probabilities)
    for first, *rest in spellings:
        logs = log_probabilities[:, first].double()
        if rest:
            ahead = read_ahead([first, *rest[:-1]])
            for place, piece in enumerate(rest):
                logs = logs + ahead[:, place, piece].double().to(logs.device)
        total = [sum_ + float(p) for sum_, p in zip(total, logs.exp(), strict=True)]
    return tuple(min(p, 1.0) for p in total)
