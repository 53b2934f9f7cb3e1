"""What a change does to other text: 100 questions, answered by the unchanged model, and 100 passages.

KL(base ‖ changed) of next-token distributions (nats), in the format the model is used in and on raw text; and
how many greedy answers stay the same. None of these texts is used to choose vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from analysis.errors import PromptTooLong
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.reading.questions import list_questions
from analysis.running.calibration import evaluation_text, reference_text
from analysis.running.prompts import encode_open_end, encode_prompt
from analysis.running.templates import has_template
from analysis.skills.answering import answer_prompts
from analysis.skills.unrelated import cut_passages
from analysis.unlearning.edits.head_states import compare_states, read_states, take_neurons
from analysis.unlearning.edits.reversals import Reversal

TEXTS = 100
"""Questions, and passages."""
ANSWER = 12
"""Tokens of an answer that are compared."""
SCORED = 8
"""Last positions of a passage that are compared."""


@dataclass(frozen=True, eq=False)
class SideTexts:
    """Sequences of token ids, the last `counts` positions of each compared; base: the unchanged model's
    states there. asked: how many of the first are questions with answers, the rest passages.
    """

    sequences: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    base: tuple[Tensor, ...]
    asked: int


@dataclass(frozen=True)
class KlSummary:
    """KL(base ‖ changed) in nats over n texts. median, p95: of a text's mean over its positions; largest: at
    any one position.
    """

    median: float
    p95: float
    largest: float
    n: int


@dataclass(frozen=True)
class SideEffects:
    """chat: None for a model without a chat template. unchanged: share of `answers` greedy answers whose
    tokens all stay the same.
    """

    chat: KlSummary | None
    raw: KlSummary
    unchanged: float
    answers: int


_read: WeakKeyDictionary[LoadedModel, SideTexts] = WeakKeyDictionary()
_table = threading.Lock()


def read_side_texts(loaded: LoadedModel, pulse: Pulse = lambda done, total: None) -> SideTexts:
    """The texts for a model, and its unchanged states there; read once per model."""
    with _table:
        known = _read.get(loaded)
    if known is None:
        known = _read_texts(loaded, pulse)
        with _table:
            _read[loaded] = known
    return known


def _read_texts(loaded: LoadedModel, pulse: Pulse) -> SideTexts:
    longest = loaded.anatomy.context - 1
    asked: list[list[int]] = []
    for question in list_questions()[:TEXTS]:
        with suppress(PromptTooLong):
            asked.append(encode_prompt(loaded, question)[-longest:])
    answers = answer_prompts(
        loaded, asked, stops=[[]] * len(asked), max_new_tokens=ANSWER, pulse=lambda done, total: pulse(0, 0)
    )
    sequences = [(*ids, *answer.token_ids[:-1]) for ids, answer in zip(asked, answers, strict=True)]
    counts = [max(len(answer.token_ids), 1) for answer in answers]
    for passage in cut_passages(f"{evaluation_text()}\n\n{reference_text()}", TEXTS):
        ids = tuple(encode_open_end(loaded.tokenizer, passage)[: loaded.anatomy.context])
        sequences.append(ids)
        counts.append(min(SCORED, len(ids)))
    base = read_states(loaded, sequences, counts)
    return SideTexts(tuple(sequences), tuple(counts), tuple(base), len(asked))


def measure_side_effects(
    loaded: LoadedModel,
    edits: Sequence[Reversal],
    tokens: Sequence[int] = (),
    pulse: Pulse = lambda done, total: None,
) -> SideEffects:
    """The effect of replaced vectors on other text.

    tokens: of the removed concepts; positions where one of them was the likeliest are left out of the KL.
    """
    texts = read_side_texts(loaded, pulse)
    pulse(0, 0)
    states = texts.base
    if take_neurons(edits):
        states = tuple(read_states(loaded, texts.sequences, texts.counts, edits))
    pulse(0, 0)
    found = compare_states(loaded, torch.cat(texts.base), torch.cat(states), edits)
    other = ~torch.isin(found.top, torch.tensor(list(tokens), dtype=found.top.dtype))
    counts = list(texts.counts)
    kls = [kl[kept] for kl, kept in zip(found.kl.split(counts), other.split(counts), strict=True)]
    same = [bool(part.all()) for part in (found.top == found.changed_top).split(counts)][: texts.asked]
    return SideEffects(
        chat=_summarise(kls[: texts.asked]) if has_template(loaded) else None,
        raw=_summarise(kls[texts.asked :]),
        unchanged=sum(same) / max(len(same), 1),
        answers=len(same),
    )


def _summarise(kls: Sequence[Tensor]) -> KlSummary:
    """Of the KLs at each text's positions."""
    some = [kl for kl in kls if len(kl)]
    if not some:
        return KlSummary(0.0, 0.0, 0.0, 0)
    means = torch.stack([kl.mean() for kl in some])
    return KlSummary(
        float(means.median()),
        float(means.quantile(0.95)),
        float(torch.cat(some).max()),
        len(some),
    )
