"""Where P(word) of a pair of texts is read: at the answer position, which a model's own answer may decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.opening.models import LoadedModel
from analysis.reading.answer_positions import (
    LONGEST_ANSWER,
    AnswerPosition,
    needs_own_answer,
    place_answer,
    write_own_answer,
)
from analysis.reading.word_kinds import kind_words_of
from analysis.running.conversations import Conversation
from analysis.running.generation import Sampling, generate_steps
from analysis.running.prompts import encode_conversation
from analysis.running.words import list_spellings
from workbench.generating.requests import GenerationRequest


@dataclass(frozen=True)
class WordPlace:
    """The answer position: 0-based in the fed sequence, of which answer_prefix is the end behind the prompt.

    source: prefix, own answer, kind or first, as in `AnswerPosition`. said: why it is this one, a sentence.
    """

    position: int
    answer_prefix: str
    source: str
    said: str


def spell_word(
    loaded: LoadedModel, request: GenerationRequest, conversation: Conversation | None = None
) -> list[tuple[int, ...]]:
    """The word's spellings behind a conversation (default: the request's) as token ids; none for no word."""
    if not request.word.strip():
        return []
    asked = conversation or request.conversation
    return [spelling.token_ids for spelling in list_spellings(loaded, asked, request.word, request.fold_case)]


def read_at_answer(
    loaded: LoadedModel, request: GenerationRequest, own: Sequence[int], first: tuple[float, float] | None
) -> tuple[tuple[float, float] | None, WordPlace]:
    """P(word) of a finished pair's (base, changed) at the answer position, and where that is.

    own: the base text's token ids. first: P(word) at the first position after the prompt. Elsewhere both
    rows read the prompt and the base's own answer up to there, so that `last` is the answer position.
    """
    conversation = request.conversation
    if needs_own_answer(loaded, conversation) and not _is_own_answer(loaded, request.sampling, own):
        own = write_own_answer(loaded, conversation)
    kind = kind_words_of(request.word)
    found = place_answer(loaded, conversation, own, request.word, kind, fold_case=request.fold_case)
    moved = list(found.ids) != encode_conversation(loaded, conversation)
    word = _read_word(loaded, request, found) if moved else first
    place = WordPlace(found.position, found.conversation.answer_prefix, found.source, found.said)
    return word, place


def _is_own_answer(loaded: LoadedModel, sampling: Sampling, own: Sequence[int]) -> bool:
    """Whether the base text is the greedy answer, to its end or as long as the part that is searched."""
    greedy = sampling.temperature == 0 and not sampling.as_configured
    return greedy and bool(own) and (len(own) >= LONGEST_ANSWER or own[-1] in loaded.ends_of_text)


def _read_word(
    loaded: LoadedModel, request: GenerationRequest, found: AnswerPosition
) -> tuple[float, float] | None:
    spellings = spell_word(loaded, request, found.conversation)
    (step,) = generate_steps(loaded, found.ids, request.clamps, Sampling(1), spellings)
    return step.word
