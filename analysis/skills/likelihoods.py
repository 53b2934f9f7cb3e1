"""Likelihoods of texts under interventions: choices, perplexity, and next-token distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.intervening.interventions import Intervention
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from analysis.running.batches import BATCH, make_batches, run_batch


@dataclass(frozen=True)
class Likelihood:
    """Of the tokens after a prompt: sum of log p (nats), count, and whether a guard refused.

    greedy: whether each was the argmax.
    """

    log_probability: float
    count: int
    abstained: bool
    greedy: bool


def score_continuations(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    interventions: Sequence[Intervention] = (),
    *,
    asked: Sequence[int] | None = None,
    batch_size: int = BATCH,
    pulse: Pulse = lambda done, total: None,
) -> list[Likelihood]:
    """log p of each continuation after its prompt (token ids, at least one each), in their order.

    asked: how many tokens of each are the query that a guard checks; None: the prompt. The last token is
    scored but not fed, as in generation, unless it is part of the query. What is fed for several of them
    alike, such as a question whose choices are letters, is fed once.
    """
    wholes = [[*p, *c] for p, c in zip(prompts, continuations, strict=True)]
    lengths = [len(p) for p in prompts] if asked is None else list(asked)
    sequences = [whole[: max(len(whole) - 1, length)] for whole, length in zip(wholes, lengths, strict=True)]
    sharing: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for index, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
        sharing.setdefault((tuple(sequence), length), []).append(index)
    fed, shared = list(sharing), list(sharing.values())
    found: dict[int, Likelihood] = {}
    pulse(0, len(prompts))
    for batch in make_batches(loaded, [ids for ids, _ in fed], [length for _, length in fed], batch_size):
        logits, reach = run_batch(loaded, batch, interventions, last_only=False)
        for row, index in ((row, index) for row, one in enumerate(batch.indices) for index in shared[one]):
            count = len(continuations[index])
            unfed = len(wholes[index]) - len(sequences[index])
            end = logits.shape[1] - 1 + unfed
            log_p = torch.log_softmax(logits[row, end - count : end].float(), -1)
            target = torch.tensor(wholes[index][-count:], device=log_p.device)
            total = float(log_p.gather(-1, target[:, None]).double().sum())
            greedy = bool((log_p.argmax(-1) == target).all())
            found[index] = Likelihood(total, count, row in reach.abstained, greedy)
        pulse(len(found), len(prompts))
    return [found[index] for index in range(len(prompts))]


def score_next_tokens(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    interventions: Sequence[Intervention] = (),
    *,
    batch_size: int = BATCH,
) -> tuple[Tensor, Tensor]:
    """(n, V) log p of the token after each prompt, float32 on the CPU; (n,) whether a guard refused it."""
    log_p = torch.empty(len(prompts), len(loaded.vocabulary))
    refused = torch.zeros(len(prompts), dtype=torch.bool)
    for batch in make_batches(loaded, prompts, size=batch_size):
        logits, reach = run_batch(loaded, batch, interventions)
        log_p[list(batch.indices)] = torch.log_softmax(logits[:, -1].float(), -1).cpu()
        refused[[batch.indices[row] for row in reach.abstained]] = True
    return log_p, refused
