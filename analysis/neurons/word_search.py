"""Search for the neurons that decode to a word: exact over all neurons, one matrix product (METHODS §1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.errors import HeadlampError

METHOD_VERSION = "1"
By = Literal["probability", "z", "cosine"]
Sign = Literal["both", "positive", "negative"]
RANKINGS: tuple[By, ...] = get_args(By)
SIGNS: tuple[Sign, ...] = get_args(Sign)


@dataclass(frozen=True)
class WordScores:
    """How strongly each of n neurons decodes to a word, its variants merged (METHODS §1).

    probability (n,) in [0, 1]: p summed over the variants. z_score, cosine (n,): that of the variant with the
    largest |z-score|, |cosine|. tokens (n, 3) int32 and signs (n, 3) int8, in the order of RANKINGS: the
    decisive variant in each ranking (largest p, |z-score|, |cosine|), and whether the neuron pushes
    it up (+1) or down (−1).
    """

    probability: Tensor
    z_score: Tensor
    cosine: Tensor
    tokens: Tensor
    signs: Tensor

    def __post_init__(self) -> None:
        n = len(self.probability)
        if self.z_score.shape != (n,) or self.tokens.shape != (n, 3) or self.signs.shape != (n, 3):
            raise ValueError("WordScores' arrays must all describe the same neurons")

    def by(self, by: By) -> Tensor:
        """(n,) the chosen score. Raises HeadlampError for an unknown one."""
        return (self.probability, self.z_score, self.cosine)[_column(by)]

    def sign(self, by: By) -> Tensor:
        """(n,) +1 or −1: whether the ranking's decisive variant is promoted or suppressed."""
        return self.signs[:, _column(by)]

    def token(self, by: By) -> Tensor:
        """(n,) the decisive variant in this ranking."""
        return self.tokens[:, _column(by)]


def score_word(
    vectors: Tensor, head: HeadMatrix, tokens: tuple[int, ...], log_z: Tensor, mean: Tensor, deviation: Tensor
) -> WordScores:
    """Score vectors (n, d), already n(w), for a word; log_z, mean, deviation (n,) from their decoding.

    The vectors may lie on any device; the scores lie on the CPU.
    """
    rows = head.rows[list(tokens)]
    vectors = vectors.to(rows.device)
    z = (vectors @ rows.T).cpu()
    lengths = (vectors.norm(dim=-1, keepdim=True) * rows.norm(dim=-1)).cpu()
    p = torch.exp(z - log_z.cpu()[:, None])
    z_scores = (z - mean.cpu()[:, None]) / deviation.cpu()[:, None].clamp(min=1e-12)
    cosines = z / lengths.clamp(min=1e-12)
    best = torch.stack([p.argmax(-1), z_scores.abs().argmax(-1), cosines.abs().argmax(-1)], 1)
    pushed = torch.stack([z_scores, z_scores, cosines], 1).gather(2, best[..., None])[..., 0]
    return WordScores(
        probability=p.sum(-1).clamp(max=1.0),
        z_score=pushed[:, 1],
        cosine=pushed[:, 2],
        tokens=torch.tensor(tokens, dtype=torch.int32)[best],
        signs=torch.where(pushed >= 0, 1, -1).to(torch.int8),
    )


def rank(scores: WordScores, by: By, sign: Sign | None, limit: int) -> Tensor:
    """Indices (≤ limit,) of the best neurons, best first; ties in storage order.

    sign: both | positive | negative, of what the neuron does to the word; None is both. A probability has no
    negative side, so `negative` asks for another ranking.
    """
    values = scores.by(by)
    if sign not in (None, *SIGNS):
        raise HeadlampError(f"sign {sign!r} is unknown; choose {', '.join(SIGNS)}")
    if by == "probability" and sign == "negative":
        raise HeadlampError("a probability has no negative side; rank by z or cosine to see neurons of −word")
    wanted = {"positive": 1, "negative": -1}.get(sign or "both", 0)
    allowed = (scores.sign(by) == wanted) | (wanted == 0)
    order = torch.argsort(values.abs(), descending=True, stable=True)
    return order[allowed[order]][:limit]


def _column(by: By) -> int:
    if by not in RANKINGS:
        raise HeadlampError(f"ranking {by!r} is unknown; choose {', '.join(RANKINGS)}")
    return RANKINGS.index(by)
