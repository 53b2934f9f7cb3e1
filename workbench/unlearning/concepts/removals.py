"""Concepts removed one after the other, each measured where the model says it and in the words it answers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from analysis.errors import UnknownWord
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from analysis.pulse import Pulse
from analysis.reading.answer_positions import LONGEST_ANSWER, AnswerPosition, needs_own_answer, place_answer
from analysis.reading.word_kinds import kind_words_of
from analysis.running.conversations import Conversation
from analysis.running.prompts import encode_conversation
from analysis.skills.answering import answer_prompts
from analysis.unlearning.edits.head_states import (
    compare_states,
    read_concept_probability,
    read_residuals,
    read_states,
)
from analysis.unlearning.edits.reversals import HeadRow, Reversal, Tars
from analysis.unlearning.edits.side_effects import SideEffects, measure_side_effects
from analysis.unlearning.edits.tars import Target, aim_at_concept, list_candidates
from analysis.unlearning.edits.tars_search import Scored, TarsSearch, search_edits
from workbench.unlearning.concepts.questions import Concept, ConceptQuestion, check_words

LEAST_SAID = 0.05
"""P(concept) on an aiming prompt below which the model does not say it, so that nothing can be removed."""
COUNTED = 0.3
"""P(concept) before, from which a held-out wording counts."""
REMOVED = 0.05
"""P(concept) after, below which it counts as removed in a held-out wording."""
KEPT_TOKENS = 16
"""Tokens of the other prompts' answers that are compared."""


@dataclass(frozen=True)
class PromptEffect:
    """A prompt of a concept. split: aimed, held_out or languages; said: why it is read where it is.

    before, after: P(concept) there, in [0, 1]; zeroed: with the concept's head rows zeroed alone. answer: the
    greedy one after the removal; says: the concept or a synonym as that answer has it, empty if it does not.
    """

    prompt: str
    split: str
    said: str
    before: float
    after: float
    zeroed: float
    answer: str
    says: str

    @property
    def counted(self) -> bool:
        """Whether its P before is high enough to say anything."""
        return self.before >= COUNTED


@dataclass(frozen=True, eq=False)
class RemovedConcept:
    """One removal. effects: on other text, of all edits up to this one; zeroed: of its head rows zeroed."""

    word: str
    target: Target
    found: TarsSearch
    prompts: tuple[PromptEffect, ...]
    effects: SideEffects
    zeroed: SideEffects

    @property
    def by_neurons(self) -> bool:
        """Whether vectors other than head rows carry the effect: they alone bring P below REMOVED."""
        return self.found.without_rows < REMOVED

    def take(self, split: str) -> tuple[PromptEffect, ...]:
        """The prompts of one split."""
        return tuple(one for one in self.prompts if one.split == split)

    @property
    def holds(self) -> bool:
        """Whether the goal is reached, and no wording or language that counts still says the concept."""
        return self.found.reached and not self.kept_elsewhere

    @property
    def kept_elsewhere(self) -> tuple[PromptEffect, ...]:
        """Held-out wordings and languages that count, in which the concept is still said."""
        elsewhere = (*self.take("held_out"), *self.take("languages"))
        return tuple(one for one in elsewhere if one.counted and one.after >= REMOVED)


@dataclass(frozen=True, eq=False)
class Removal:
    """Concepts removed in sequence. other: share of the other prompts whose greedy answers stayed, and how
    many there are; None without any.
    """

    concepts: tuple[RemovedConcept, ...]
    edits: Tars
    other: tuple[float, int] | None


@dataclass(frozen=True, eq=False)
class _Placed:
    concept: Concept
    tokens: tuple[int, ...]
    places: tuple[AnswerPosition, ...]
    splits: tuple[str, ...]
    before: tuple[float, ...]

    @property
    def aims(self) -> list[tuple[int, ...]]:
        return [place.ids for place, split in zip(self.places, self.splits, strict=True) if split == "aimed"]


def check_concepts(loaded: LoadedModel, asked: ConceptQuestion) -> None:
    """Refuse a question before a job is requested, also where the model does not say the concept.

    Raises UnknownWord, TextError, PromptTooLong, SkillError.
    """
    check_words(loaded, asked)
    for concept in asked.concepts:
        _place(loaded, concept, measured=False)


def remove_concepts(
    loaded: LoadedModel, asked: ConceptQuestion, pulse: Pulse = lambda done, total: None
) -> Removal:
    """Remove each concept on top of those before it, and measure. Raises as `check_concepts`."""
    check_words(loaded, asked)
    placed = [_place(loaded, concept) for concept in asked.concepts]
    steps = 3 * len(placed) + 1
    pulse(1, steps)
    staying = answer_other(loaded, asked.other)
    edits: tuple[Reversal, ...] = ()
    removed: list[RemovedConcept] = []
    for number, one in enumerate(placed):
        done = _remove(loaded, asked, one, edits, staying, pulse)
        pulse(3 * number + 2, steps)
        edits = (*edits, *done[1].edits)
        removed.append(_measure(loaded, one, *done, edits, [p.tokens for p in placed], pulse))
        pulse(3 * number + 4, steps)
    return Removal(tuple(removed), Tars(edits), compare_answers(loaded, staying, edits))


def _place(loaded: LoadedModel, concept: Concept, *, measured: bool = True) -> _Placed:
    """Where the concept is due behind each prompt. Raises UnknownWord where the model does not say it."""
    given = {"aimed": concept.prompts}
    if measured:
        given |= {"held_out": concept.held_out, "languages": concept.languages}
    splits = [split for split, prompts in given.items() for _ in prompts]
    prompts = [prompt for prompts in given.values() for prompt in prompts]
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, concept.word)
    places = _find_places(loaded, prompts, concept.word)
    states = read_residuals(loaded, [place.ids for place in places])
    said = read_concept_probability(loaded, states, tokens).tolist()
    for prompt, place, split, p in zip(prompts, places, splits, said, strict=True):
        if split == "aimed" and p < LEAST_SAID:
            raise UnknownWord(
                f"the model does not say {concept.word.strip()!r} after {prompt.prompt[:48]!r} (P {p:.2g}, "
                f"less than {LEAST_SAID:g}), so there is nothing to remove there. {place.said} Ask so that "
                "it answers with the word, or give the beginning of such an answer with --answer-prefix"
            )
    return _Placed(concept, tokens, tuple(places), tuple(splits), tuple(said))


def _find_places(loaded: LoadedModel, prompts: Sequence[Conversation], word: str) -> list[AnswerPosition]:
    """The answer positions; the model's own answers, where they are needed, are written side by side."""
    asked = [one for one in prompts if needs_own_answer(loaded, one)]
    ids = [encode_conversation(loaded, one) for one in asked]
    answers = answer_prompts(loaded, ids, stops=[[]] * len(ids), max_new_tokens=LONGEST_ANSWER)
    own = {one: answer.token_ids for one, answer in zip(asked, answers, strict=True)}
    kind = kind_words_of(word)
    return [place_answer(loaded, one, own.get(one, ()), word, kind) for one in prompts]


def _remove(
    loaded: LoadedModel,
    asked: ConceptQuestion,
    placed: _Placed,
    earlier: tuple[Reversal, ...],
    staying: Sequence[Scored],
    pulse: Pulse,
) -> tuple[Target, TarsSearch]:
    target = aim_at_concept(
        loaded, placed.aims, placed.tokens, noise=asked.noise, seed=asked.seed, earlier=earlier
    )
    candidates = list_candidates(
        loaded,
        target,
        threshold=asked.threshold,
        head_rows=asked.head_rows,
        taken=earlier,
        own=placed.tokens,
    )
    found = search_edits(
        loaded,
        placed.aims,
        placed.tokens,
        candidates,
        edits=asked.edits,
        goal=asked.goal,
        max_kl=asked.max_kl,
        earlier=earlier,
        staying=staying,
        pulse=pulse,
    )
    return target, found


def _measure(
    loaded: LoadedModel,
    placed: _Placed,
    target: Target,
    found: TarsSearch,
    edits: tuple[Reversal, ...],
    removed: Sequence[Sequence[int]],
    pulse: Pulse,
) -> RemovedConcept:
    """The effect of all edits so far on the concept's prompts and on other text, beside its rows zeroed."""
    zeroed = zero_rows(loaded, placed.tokens)
    ids = [place.ids for place in placed.places]
    after = read_concept_probability(loaded, read_residuals(loaded, ids, edits), placed.tokens, edits)
    banned = read_concept_probability(loaded, read_residuals(loaded, ids), placed.tokens, zeroed)
    prompts = (*placed.concept.prompts, *placed.concept.measured)
    fed = [encode_conversation(loaded, one) for one in prompts]
    answers = answer_prompts(loaded, fed, [Tars(edits)], stops=[[]] * len(fed))
    effects = tuple(
        PromptEffect(
            prompt.prompt,
            split,
            place.said,
            before,
            float(p),
            float(q),
            answer.text.strip(),
            find_leak(answer.text, placed.concept.word, placed.concept.synonyms),
        )
        for prompt, split, place, before, p, q, answer in zip(
            prompts, placed.splits, placed.places, placed.before, after, banned, answers, strict=True
        )
    )
    tokens = [token for one in removed for token in one]
    return RemovedConcept(
        word=placed.concept.word.strip(),
        target=target,
        found=found,
        prompts=effects,
        effects=measure_side_effects(loaded, edits, tokens, pulse),
        zeroed=measure_side_effects(loaded, zeroed, placed.tokens, pulse),
    )


def zero_rows(loaded: LoadedModel, tokens: Sequence[int]) -> tuple[Reversal, ...]:
    """The baseline: these tokens' head rows set to zero, and nothing else."""
    width = loaded.anatomy.d_model
    return tuple(Reversal(HeadRow(token), "head", 0.0, torch.zeros(width)) for token in tokens)


def find_leak(answer: str, word: str, synonyms: Sequence[str] = ()) -> str:
    """The word as an answer still has it: in any case, spelled out (P-a-r-i-s), or a synonym; else empty."""
    text = unicodedata.normalize("NFC", answer)
    letters = r"[\W_]{0,3}".join(map(re.escape, unicodedata.normalize("NFC", word.strip())))
    patterns = [letters, *(re.escape(unicodedata.normalize("NFC", one.strip())) for one in synonyms)]
    for pattern in patterns:
        match = re.search(rf"(?<!\w){pattern}(?!\w)", text, re.IGNORECASE) if pattern else None
        if match is not None:
            return match[0]
    return ""


def answer_other(loaded: LoadedModel, prompts: Sequence[Conversation]) -> list[Scored]:
    """The other prompts with the unchanged model's answers, to be compared where it wrote them."""
    ids = [encode_conversation(loaded, one) for one in prompts]
    answers = answer_prompts(loaded, ids, stops=[[]] * len(ids), max_new_tokens=KEPT_TOKENS)
    return [
        ([*asked, *answer.token_ids[:-1]], max(len(answer.token_ids), 1))
        for asked, answer in zip(ids, answers, strict=True)
    ]


def compare_answers(
    loaded: LoadedModel, staying: Sequence[Scored], edits: tuple[Reversal, ...]
) -> tuple[float, int] | None:
    """(share of greedy answers that stay under these edits, how many there are); None for no prompt.

    An answer stays exactly if each of its tokens stays the likeliest behind those before it.
    """
    if not staying:
        return None
    ids, counts = [ids for ids, _ in staying], [count for _, count in staying]
    base, changed = (torch.cat(read_states(loaded, ids, counts, own)) for own in ((), edits))
    found = compare_states(loaded, base, changed, edits)
    same = [bool(part.all()) for part in (found.top == found.changed_top).split(counts)]
    return sum(same) / len(same), len(same)
