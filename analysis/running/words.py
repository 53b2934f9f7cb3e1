"""The probability that a text goes on with a word, over its spellings and their pieces (METHODS §2).

    P(word) = Σ over spellings of Π over pieces of p(piece | text, pieces before it) · (1 − what goes on)

A spelling is the word with or without a leading space, case as typed (or any), as the tokenizer splits it
behind the prompt; the same tokens count once. What goes on is the probability, behind all pieces, of tokens
that make it a longer word (Rome|o, dog|s).
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from weakref import WeakKeyDictionary

import torch
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

_JOINS = "'’-‐‑"
"""Apostrophes and hyphens, which continue a word if a letter follows: dog's, dog-like."""
_UNSPACED = re.compile(
    "[\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Scripts written without spaces (Thai to Burmese, Khmer, Chinese, Japanese): no letter says that a word goes
on."""
_PARTIAL_BYTE = re.compile(r"<0x[89A-F][0-9A-F]>")

_continuing: WeakKeyDictionary[LoadedModel, Tensor] = WeakKeyDictionary()
_table = threading.Lock()


@dataclass(frozen=True)
class Spelling:
    """One way of writing a word: its text, and its pieces as token ids."""

    text: str
    token_ids: tuple[int, ...]


def list_spellings(
    loaded: LoadedModel, conversation: Conversation, word: str, fold_case: bool = False
) -> tuple[Spelling, ...]:
    """The spellings of a word behind a prompt, without a leading space first.

    fold_case: those in lower case, capitalised and in capitals too, after the case as typed.
    Raises UnknownWord for no word, one that the vocabulary cannot write, a special token, and one of more
    than LONGEST pieces.
    """
    bare = unicodedata.normalize("NFC", word.strip())
    if not bare:
        raise UnknownWord("no word given; type one, such as dog")
    found: dict[tuple[int, ...], Spelling] = {}
    forms = list_cases(bare) if fold_case else (bare,)
    for text in (text for form in forms for text in (form, f" {form}")):
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


def list_cases(word: str) -> tuple[str, ...]:
    """A word as typed, in lower case, capitalised and in capitals; each once."""
    return tuple(dict.fromkeys((word, word.lower(), word[:1].upper() + word[1:], word.upper())))


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
    excluded: Sequence[Tensor | None] = (),
    least: float = 0.0,
) -> tuple[float, ...]:
    """P(word) of each row of log-probabilities (rows, V) at one position; each in [0, 1].

    read_ahead: (rows, n, V) log-probabilities after each of n pieces, fed to every row.
    excluded: of each spelling, (V,) the tokens behind it that make it another word (`list_excluded`); none
    leaves P(word or more). least: spellings of one piece below it in every row keep what goes on, so that
    the sum is too high by less than that for each, and no step is needed.
    """
    total = [0.0] * len(log_probabilities)
    for spelling, others in zip_longest(spellings, excluded):
        first, *rest = spelling
        logs = log_probabilities[:, first].double()
        if others is not None and not rest and bool((logs.exp() < least).all()):
            others = None
        if rest or others is not None:
            ahead = read_ahead(spelling[:-1] if others is None else spelling)
            for place, piece in enumerate(rest):
                logs = logs + ahead[:, place, piece].double().to(logs.device)
            if others is not None:
                longer = ahead[:, -1].double().exp()[:, others.to(ahead.device)].sum(-1)
                logs = logs + torch.log1p(-longer.clamp(max=1)).to(logs.device)
        total = [sum_ + float(p) for sum_, p in zip(total, logs.exp(), strict=True)]
    return tuple(min(p, 1.0) for p in total)


def continues_word(loaded: LoadedModel) -> Tensor:
    """(V,) bool: the tokens that make a word before them a longer one (`goes_on`); found once per model."""
    with _table:
        known = _continuing.get(loaded)
        if known is None:
            vocabulary = loaded.vocabulary
            texts = enumerate(vocabulary.texts)
            known = torch.tensor([i not in vocabulary.special and goes_on(text) for i, text in texts])
            _continuing[loaded] = known
    return known


def list_excluded(loaded: LoadedModel, spellings: Sequence[Sequence[int]]) -> tuple[Tensor | None, ...]:
    """Of each spelling (token ids), (V,) bool: the tokens behind it that belong to another word or spelling.

    Those of `continues_word` if it ends in a letter, digit or combining mark of a script with spaces, and
    the further piece of a listed spelling that begins with it, which counts on its own. None for no token.
    """
    texts, found = loaded.vocabulary.texts, list[Tensor | None]()
    for ids in spellings:
        word = join_tokens([texts[i] for i in ids])
        mask = continues_word(loaded) if _is_of_words(word[-1:]) else None
        further = {other[len(ids)] for other in spellings if len(other) > len(ids) and _begins(other, ids)}
        if further:
            mask = torch.zeros(len(texts), dtype=torch.bool) if mask is None else mask.clone()
            mask[sorted(further)] = True
        found.append(mask)
    return tuple(found)


def _begins(ids: Sequence[int], beginning: Sequence[int]) -> bool:
    return list(ids[: len(beginning)]) == list(beginning)


def goes_on(text: str) -> bool:
    """Whether a text behind a word makes it a longer one.

    So it does if it begins with a letter, digit or combining mark, with an apostrophe or hyphen before a
    letter, or with a token that is a part of a character outside ASCII. Letters of scripts written without
    spaces do not.
    """
    if _PARTIAL_BYTE.match(text):
        return True
    first, after = text[:1], text[1:2]
    return _is_of_words(first) or (first in tuple(_JOINS) and after.isalpha() and _is_of_words(after))


def stands_alone(text: str, start: int, end: int) -> bool:
    """Whether text[start:end], not empty, is no part of a longer word.

    In scripts written without spaces any part of a text may be a word.
    """
    before, after = text[max(start - 2, 0) : start], text[end : end + 2]
    joined = before[-1:] in tuple(_JOINS) and before[:1].isalpha()
    if _is_of_words(text[start]) and (_is_of_words(before[-1:]) or joined):
        return False
    return not (_is_of_words(text[end - 1]) and goes_on(after))


def _is_of_words(character: str) -> bool:
    """Whether it is a letter, digit or combining mark of a script that puts spaces between words."""
    known = bool(character) and unicodedata.category(character)[0] in "LNM"
    return known and not _UNSPACED.match(character)
