"""Find the neurons that decode to a word: exact over all neurons, one product with its rows (METHODS §1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from analysis.decoding import HeadMatrix
from analysis.errors import HeadlampError

METHOD_VERSION = "1"
By = Literal["probability", "z", "cosine"]
Sign = Literal["both", "positive", "negative"]
RANKINGS: tuple[By, ...] = get_args(By)
SIGNS: tuple[Sign, ...] = get_args(Sign)


@dataclass(frozen=True)
class WordScores:
    """How strongly each of n neurons decodes to a word, its variants merged.

    probability (n,) in [0, 1]: p summed over the variants. z_score, cosine (n,): that of the variant with the
    largest |z-score|, |cosine|. token (n,) int32: the variant with the largest |z-score|.
    """

    probability: Tensor
    z_score: Tensor
    cosine: Tensor
    token: Tensor

    def by(self, by: By) -> Tensor:
        """(n,) the chosen score. Raises HeadlampError for an unknown one."""
        scores = {"probability": self.probability, "z": self.z_score, "cosine": self.cosine}
        if by not in scores:
            raise HeadlampError(f"ranking {by!r} is unknown; choose {', '.join(RANKINGS)}")
        return scores[by]


def score_word(
    vectors: Tensor, head: HeadMatrix, tokens: tuple[int, ...], log_z: Tensor, mean: Tensor, deviation: Tensor
) -> WordScores:
    """Score vectors (n, d), already n(w), for a word; log_z, mean, deviation (n,) are their decoding's."""
    rows = head.rows[list(tokens)]
    z = vectors @ rows.T
    probability = torch.exp(z - log_z[:, None]).sum(-1)
    z_scores = (z - mean[:, None]) / deviation[:, None].clamp(min=1e-12)
    lengths = vectors.norm(dim=-1, keepdim=True) * rows.norm(dim=-1)
    cosines = z / lengths.clamp(min=1e-12)
    best = z_scores.abs().argmax(-1, keepdim=True)
    return WordScores(
        probability=probability.clamp(max=1.0),
        z_score=z_scores.gather(1, best)[:, 0],
        cosine=cosines.gather(1, cosines.abs().argmax(-1, keepdim=True))[:, 0],
        token=torch.tensor(tokens, dtype=torch.int32)[best[:, 0]],
    )


def rank(scores: WordScores, by: By, sign: Sign | None, limit: int) -> Tensor:
    """Indices (≤ limit,) of the best neurons, best first; equal ones in the order they are stored.

    sign: both | positive | negative; None is both for z and cosine. Probabilities have no sign: `negative`
    ranks by z-score among neurons that push the word down, and asks for z or cosine to be chosen.
    """
    values = scores.by(by)
    if sign not in (None, *SIGNS):
        raise HeadlampError(f"sign {sign!r} is unknown; choose {', '.join(SIGNS)}")
    if by == "probability":
        if sign == "negative":
            raise HeadlampError(
                "a probability has no negative side; rank by z or cosine to see neurons of −word"
            )
        strength = values
    else:
        strength = {"positive": values, "negative": -values}.get(sign or "both", values.abs())
    allowed = torch.ones_like(values, dtype=torch.bool) if by == "probability" else strength > 0
    order = torch.argsort(strength, descending=True, stable=True)
    return order[allowed[order]][:limit]
