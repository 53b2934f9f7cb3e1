"""Greedy answers to many prompts in batches, under interventions: the basis for measuring skills.

A row that a guard refuses gets the guard's refusal and is no longer computed; a finished row waits for the
others. No row affects another row's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache

from analysis.errors import HeadlampError
from analysis.intervening.interventions import Intervention, intervene
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH, Batch, make_batches, require_finite
from analysis.running.continuing import find_room
from analysis.running.prompts import decode_answer
from analysis.running.reasoning import opens_reasoning, split_reasoning
from analysis.running.templates import has_template
from analysis.skills.items import BLANK_LINE

NEW_TOKENS = 40


@dataclass(frozen=True)
class Answer:
    """One answer. text: up to its stop, without special tokens; abstained: a guard refused it; cut_off: it
    ended at the limit of tokens, or of the context, not by itself.
    """

    text: str
    token_ids: tuple[int, ...]
    abstained: bool
    cut_off: bool = False


@dataclass
class _Row:
    """One row being answered."""

    ids: list[int]
    stops: Sequence[str]
    room: int
    opened: bool
    text: str = ""
    done: bool = False
    abstained: bool = False
    cut_off: bool = False


def answer_prompts(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention] = (),
    *,
    stops: Sequence[Sequence[str] | None] | None = None,
    max_new_tokens: int = NEW_TOKENS,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> list[Answer]:
    """Greedy answers to prompts (token ids), in their order, each cut at the first of its `stops`.

    stops: per prompt; None: a blank line, or nothing if the model has a chat template; looked for behind a
    reasoning block, if any. A prompt that leaves no room for one token is refused. Raises HeadlampError if
    an intervention drives the model to NaN.
    """
    if not 1 <= max_new_tokens <= 4096:
        raise HeadlampError(f"max new tokens {max_new_tokens}: choose 1 to 4096")
    found: dict[int, Answer] = {}
    pulse(0, len(prompts))
    for batch in make_batches(loaded, prompts, size=batch_size):
        rows = [
            _Row(
                [],
                choose_stops(loaded, None if stops is None else stops[i]),
                min(max_new_tokens, find_room(loaded, length)),
                opens_reasoning(loaded, prompts[i]),
            )
            for i, length in zip(batch.indices, batch.prompt_lengths, strict=True)
        ]
        _make_answer(loaded, batch, interventions, rows)
        for index, row in zip(batch.indices, rows, strict=True):
            found[index] = Answer(row.text, tuple(row.ids), row.abstained, row.cut_off)
        pulse(len(found), len(prompts))
    return [found[index] for index in range(len(prompts))]


def choose_stops(loaded: LoadedModel, stops: Sequence[str] | None) -> Sequence[str]:
    """The given stops; None: a blank line where plain text is continued, none behind a chat template."""
    if stops is not None:
        return stops
    return () if has_template(loaded) else (BLANK_LINE,)


def _make_answer(
    loaded: LoadedModel, batch: Batch, interventions: Sequence[Intervention], rows: Sequence[_Row]
) -> None:
    """Fill the rows of a batch, one step at a time, until all are done."""
    cache = DynamicCache(config=loaded.model.config)
    mask = batch.mask
    while True:
        with (
            intervene(
                loaded,
                interventions,
                positions=batch.positions,
                prompt_length=batch.prompt_lengths,
                examples=batch.examples,
            ) as reach,
            torch.inference_mode(),
        ):
            logits = loaded.model(
                input_ids=batch.ids,
                attention_mask=mask,
                position_ids=batch.positions.clamp(min=0),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1:, : len(loaded.vocabulary)]
        finite = require_finite(loaded, logits, interventions)[:, -1]
        chosen = loaded.vocabulary.restrict(finite).float().argmax(-1)
        _extend(loaded, rows, chosen.tolist(), reach.abstained)
        if all(row.done for row in rows):
            return
        positions = (batch.positions[:, -1:] + 1).clamp(max=loaded.anatomy.context - 1)  # a done row waits
        batch = replace(batch, ids=chosen[:, None], positions=positions)
        mask = None if mask is None else _longer(mask)


def _extend(
    loaded: LoadedModel, rows: Sequence[_Row], chosen: Sequence[int], abstained: Sequence[int]
) -> None:
    for number, (row, token) in enumerate(zip(rows, chosen, strict=True)):
        if row.done:
            continue
        if number in abstained:
            row.done, row.abstained, row.ids, row.text = True, True, [], ""
            continue
        row.ids.append(token)
        row.text, stopped = _cut(decode_answer(loaded, row.ids), row.stops, row.opened)
        ended = stopped or token in loaded.ends_of_text
        row.done = ended or len(row.ids) >= row.room
        row.cut_off = row.done and not ended


def _cut(text: str, stops: Sequence[str], opened: bool = False) -> tuple[str, bool]:
    """The text before the first of its stops, and whether there was one.

    Behind a reasoning block (`split_reasoning`) a stop counts from the answer's first visible character on.
    """
    reasoning, answer = split_reasoning(text, opened)
    start = 0 if reasoning is None else len(text) - len(answer.lstrip())
    ends = [end for stop in stops if stop and (end := text.find(stop, start)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


def _longer(mask: Tensor) -> Tensor:
    return torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
