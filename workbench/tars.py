"""TARS as a use case: a concept removed, and what that did to it and to other text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from analysis.models import LoadedModel
from analysis.recipe_store import recipe_files
from analysis.skills.likelihoods import next_token_log_probabilities
from analysis.skills.metrics import divergence
from analysis.texts import prompt_ids, reference_windows
from analysis.unlearning import tars
from analysis.unlearning.reversals import Tars
from analysis.unlearning.tars import MOST_EDITS, NOISE, THRESHOLD, aim, fit_tars
from analysis.vocabulary import word_tokens

WINDOW = 32
"""Tokens of the reference text before each next token whose distribution is compared."""


@dataclass(frozen=True)
class Removal:
    """A concept removed. probability: mean over the prompts, before and after; kl_median (nats) over
    `positions` of the reference text, those left out where the concept itself was the likeliest before."""

    concept: str
    edits: Tars
    aimed: float
    before: float
    after: float
    kl_median: float
    positions: int
    recipe: dict[str, bytes]

    def document(self) -> dict[str, Any]:
        """As `tars --json` prints it."""
        return {
            "concept": self.concept,
            "edits": [
                {"address": str(edit.address), "vector": edit.site, "cosine": edit.cosine}
                for edit in self.edits.edits
            ],
            "target": self.aimed,
            "probability": {"before": self.before, "after": self.after},
            "kl": {"median": self.kl_median, "n": self.positions},
            "version": tars.METHOD_VERSION,
        }


def remove_concept(
    loaded: LoadedModel,
    concept: str,
    prompts: Sequence[str],
    *,
    edits: int = MOST_EDITS,
    threshold: float = THRESHOLD,
    noise: float = NOISE,
    seed: int = 0,
) -> Removal:
    """Aim at a concept (a word of one token) from prompts that lead to it, and turn the best vectors round.

    Raises UnknownWord, TextError, SkillError.
    """
    tokens = word_tokens(loaded.vocabulary, loaded.tokenizer, concept)
    ids = [prompt_ids(loaded, prompt) for prompt in prompts]
    target = aim(loaded, ids, tokens, noise=noise, seed=seed)
    change = fit_tars(loaded, target, edits=edits, threshold=threshold)
    said = [_probability(loaded, ids, tokens, changes) for changes in ((), (change,))]
    windows = [w[i : i + WINDOW] for w in reference_windows(loaded) for i in range(0, len(w), WINDOW)]
    base, _ = next_token_log_probabilities(loaded, windows)
    after, refused = next_token_log_probabilities(loaded, windows, [change])
    other = ~torch.isin(base.argmax(-1), torch.tensor(tokens))
    found = divergence(base[other], after[other], refused[other], 0)
    return Removal(
        concept=concept,
        edits=change,
        aimed=target.probability,
        before=said[0],
        after=said[1],
        kl_median=found.kl_median or 0.0,
        positions=found.n,
        recipe=recipe_files(loaded, [change], "recipe"),
    )


def _probability(
    loaded: LoadedModel, ids: Sequence[Sequence[int]], tokens: Sequence[int], changes: Sequence[Tars]
) -> float:
    log_p: Tensor = next_token_log_probabilities(loaded, ids, changes)[0]
    return float(log_p.double().exp()[:, list(tokens)].sum(-1).mean())
