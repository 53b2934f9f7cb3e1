"""Whether a text falls into repetition under clamps (METHODS §2, "collapse")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from analysis.intervening.clamps import Clamp
from analysis.intervening.interventions import intervene
from analysis.levers.passes import can_share
from analysis.levers.readings import Clamps
from analysis.opening.models import LoadedModel
from analysis.running.continuing import find_room

LONGEST = 20
"""How many tokens are generated."""
FEWEST = 8
"""Tokens below which a text is not judged."""
GRAM = 4
SHARE, ABOVE_BASE = 0.5, 0.25


@dataclass(frozen=True)
class Continuation:
    """A greedy text of at most LONGEST tokens. repetition: its share of repeated 4-grams, in [0, 1); None for
    fewer than FEWEST tokens.
    """

    token_ids: tuple[int, ...]

    @property
    def repetition(self) -> float | None:
        """The share of 4-grams that occurred before."""
        if len(self.token_ids) < FEWEST:
            return None
        grams = [self.token_ids[at : at + GRAM] for at in range(len(self.token_ids) - GRAM + 1)]
        return 1 - len(set(grams)) / len(grams)


def collapses(changed: Continuation, base: Continuation) -> bool | None:
    """Whether a text repeats itself far more than the base does; None where it is too short to judge."""
    share = changed.repetition
    if share is None:
        return None
    return share > SHARE and share > (base.repetition or 0.0) + ABOVE_BASE


def continue_rows(loaded: LoadedModel, ids: Sequence[int], rows: Sequence[Clamps]) -> list[Continuation]:
    """Greedy continuations of one prompt, one for each row of clamps (none: the base), side by side.

    A row whose clamps drive the model to NaN ends there.
    """
    texts: list[list[int]] = [[] for _ in rows]
    ended = [False] * len(rows)
    clamps = [clamp for row in rows for clamp in row]
    own = [[place] for place, row in enumerate(rows) for _ in row]
    firsts = (max(int(clamp.scope.interval(len(ids))[0]), 0) for clamp in clamps)
    start = min([len(ids) - 1, *firsts]) if can_share(loaded) else 0
    cache = DynamicCache(config=loaded.model.config)

    def feed(fed: Tensor, at: int, changes: Sequence[Clamp]) -> Tensor:
        positions = torch.arange(at, at + fed.shape[1], device=fed.device).expand(len(fed), -1)
        of_rows = own if changes else ()
        held = intervene(loaded, changes, positions=positions, prompt_length=len(ids), rows=of_rows)
        with held, torch.no_grad():
            output = loaded.model(
                input_ids=fed,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return loaded.vocabulary.restrict(output.logits[:, -1].float())

    prompt = torch.tensor([list(ids)], device=loaded.device)
    if start:  # what lies before every clamp is fed once
        feed(prompt[:, :start], 0, ())
        cache.batch_repeat_interleave(len(rows))
    fed = prompt[:, start:].expand(len(rows), -1)
    for _ in range(min(LONGEST, find_room(loaded, len(ids)))):
        chosen = _choose(feed(fed, start, clamps))
        for row, token in enumerate(chosen.tolist()):
            ended[row] = ended[row] or token < 0 or token in loaded.ends_of_text
            if not ended[row]:
                texts[row].append(token)
        if all(ended):
            break
        start += fed.shape[1]
        fed = chosen.clamp(min=0)[:, None]
    return [Continuation(tuple(text)) for text in texts]


def _choose(logits: Tensor) -> Tensor:
    """(n,) the likeliest token of each row; −1 where the logits are NaN."""
    broken = torch.isnan(logits).any(-1)
    return torch.where(broken, -1, logits.nan_to_num(nan=-torch.inf).argmax(-1))
