"""From a prompt as typed to where a word is read behind it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.errors import HeadlampError, TextError
from analysis.levers.bench import WordPrompt
from analysis.opening.models import LoadedModel
from analysis.reading.answer_positions import find_answer_position
from analysis.reading.word_kinds import kind_words_of
from analysis.running.conversations import Conversation
from analysis.running.prompts import is_rendered
from analysis.running.words import Spelling, list_spellings


@dataclass(frozen=True)
class PlacedPrompt:
    """A prompt up to its answer position. answer_prefix: the beginning of the answer up to there; said: why
    it is read there.
    """

    answer_prefix: str
    placed: WordPrompt
    spellings: tuple[Spelling, ...]
    said: str


def check_prompt(loaded: LoadedModel, asked: Conversation, word: str) -> None:
    """Refuse a text to be continued that already ends in the word, and a word that cannot be written behind
    it. What a chat model is asked may end in the word, since its answer begins anew.

    Raises TextError, UnknownWord.
    """
    end = asked.answer_prefix or ("" if is_rendered(loaded, asked) else asked.prompt)
    said = unicodedata.normalize("NFC", end).rstrip(" .,:;!?\"'”’")
    bare = unicodedata.normalize("NFC", word.strip())
    if re.search(rf"(?<!\w){re.escape(bare)}$", said, re.IGNORECASE):
        raise TextError(
            f"the prompt {_cut(said)!r} already ends in {bare!r}, so what follows is not the word; end it "
            "before the word"
        )
    list_spellings(loaded, asked, word)


def place_prompt(loaded: LoadedModel, asked: Conversation, word: str) -> PlacedPrompt:
    """Where a word is read behind a prompt, and how it is spelled there.

    Raises TextError, UnknownWord, PromptTooLong.
    """
    check_prompt(loaded, asked, word)
    return locate_word(loaded, asked, word)


def locate_word(loaded: LoadedModel, asked: Conversation, word: str, fold_case: bool = False) -> PlacedPrompt:
    """Where a word is read behind any prompt, also one that ends in it, as `generate` reads it.

    Raises TextError, UnknownWord, PromptTooLong.
    """
    found = find_answer_position(loaded, asked, word, kind_words_of(word), fold_case=fold_case)
    spellings = list_spellings(loaded, found.conversation, word, fold_case)
    pieces = tuple(one.token_ids for one in spellings)
    return PlacedPrompt(
        found.conversation.answer_prefix, WordPrompt(found.ids, pieces), spellings, found.said
    )


def place_prompts(loaded: LoadedModel, asked: Sequence[Conversation], word: str) -> tuple[PlacedPrompt, ...]:
    """Each prompt's place. Raises as `place_prompt`, naming the prompt where there are several."""
    found = []
    for number, one in enumerate(asked):
        try:
            found.append(place_prompt(loaded, one, word))
        except HeadlampError as error:
            if len(asked) == 1:
                raise
            raise type(error)(f"prompt {number + 1} ({_cut(one.prompt)!r}): {error}") from error
    return tuple(found)


def _cut(text: str, longest: int = 48) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
