"""Search for the neurons that decode to a word: exact over all neurons, one matrix product (METHODS §1).

z-score and cosine need the head's mean and covariance and one pass over the vectors. The probability needs
log Σ exp z besides, which only a decoding over the whole vocabulary has.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.errors import HeadlampError

METHOD_VERSION = "2"
By = Literal["z", "cosine", "probability"]
Sign = Literal["both", "positive", "negative"]
RANKINGS: tuple[By, ...] = get_args(By)
SIGNS: tuple[Sign, ...] = get_args(Sign)


@dataclass(frozen=True)
class WordScores:
    """How strongly each of n neurons decodes to each of a word's v forms (METHODS §1).

    logits, z_scores, cosines (n, v) float32: z, (z − μ_z)/σ_z, and the cosine in [−1, 1], per form. tokens
    (v,) int32: the forms' ids. log_z (n,): log Σ exp z over the vocabulary; None before the neurons are
    decoded.
    """

    logits: Tensor
    z_scores: Tensor
    cosines: Tensor
    tokens: Tensor
    log_z: Tensor | None = None

    def __post_init__(self) -> None:
        shape = (len(self.logits), len(self.tokens))
        if any(one.shape != shape for one in (self.logits, self.z_scores, self.cosines)):
            raise ValueError("WordScores' arrays must all describe the same neurons and forms")
        if self.log_z is not None and self.log_z.shape != shape[:1]:
            raise ValueError("WordScores' log_z must have a number for every neuron")

    @property
    def probability(self) -> Tensor | None:
        """(n,) in [0, 1]: p summed over the forms; None before the neurons are decoded."""
        if self.log_z is None:
            return None
        return torch.exp(self.logits - self.log_z[:, None]).sum(-1).clamp(max=1.0)

    def form(self, by: By) -> Tensor:
        """(n,) the column of the form that decides a ranking: largest |z-score|, |cosine|, or p.

        Raises HeadlampError for an unknown ranking.
        """
        check_ranking(by)
        found = {"z": self.z_scores.abs(), "cosine": self.cosines.abs(), "probability": self.logits}
        return found[by].argmax(-1)

    def token(self, by: By) -> Tensor:
        """(n,) the id of the deciding form."""
        return self.tokens[self.form(by)]

    def z_score(self, by: By) -> Tensor:
        """(n,) the deciding form's z-score."""
        return self._of_form(self.z_scores, by)

    def cosine(self, by: By) -> Tensor:
        """(n,) the deciding form's cosine."""
        return self._of_form(self.cosines, by)

    def sign(self, by: By) -> Tensor:
        """(n,) int8, +1 or −1: whether positive values of the neuron push the deciding form up or down."""
        pushed = self.cosine(by) if by == "cosine" else self.z_score(by)
        return torch.where(pushed >= 0, 1, -1).to(torch.int8)

    def by(self, by: By) -> Tensor:
        """(n,) the score that a ranking sorts by.

        Raises HeadlampError for an unknown one, and for `probability` before the neurons are decoded.
        """
        check_ranking(by)
        if by != "probability":
            return self.z_score(by) if by == "z" else self.cosine(by)
        if self.probability is None:
            raise HeadlampError(
                "a ranking by probability needs the map, and these neurons are not decoded yet; decode the "
                "model first, or rank by z or cosine"
            )
        return self.probability

    def _of_form(self, values: Tensor, by: By) -> Tensor:
        return values.gather(1, self.form(by)[:, None])[:, 0]


def score_word(
    vectors: Tensor, head: HeadMatrix, tokens: tuple[int, ...], name: Hashable = None
) -> WordScores:
    """Score vectors (n, d), already n(w), for a word of these token ids; log_z stays None.

    name: of vectors that never change, so that what no word changes is measured once. The vectors may lie on
    any device; the scores lie on the CPU.
    """
    rows = head.rows[list(tokens)]
    vectors = vectors.to(rows.device)
    logits = vectors @ rows.T
    mean, deviation = head.measure_spread(vectors, name)
    lengths = vectors.norm(dim=-1, keepdim=True) * rows.norm(dim=-1)
    z_scores = (logits - mean[:, None]) / deviation[:, None].clamp(min=1e-12)
    return WordScores(
        logits=logits.cpu(),
        z_scores=z_scores.float().cpu(),
        cosines=(logits / lengths.clamp(min=1e-12)).clamp(-1, 1).cpu(),
        tokens=torch.tensor(tokens, dtype=torch.int32),
    )


def check_ranking(by: By, sign: Sign | None = None) -> None:
    """Refuse an unknown ranking or sign, and the negative side of a probability, with a HeadlampError."""
    if by not in RANKINGS:
        raise HeadlampError(f"ranking {by!r} is unknown; choose {', '.join(RANKINGS)}")
    if sign not in (None, *SIGNS):
        raise HeadlampError(f"sign {sign!r} is unknown; choose {', '.join(SIGNS)}")
    if by == "probability" and sign == "negative":
        raise HeadlampError("a probability has no negative side; rank by z or cosine to see neurons of −word")


def rank(scores: WordScores, by: By, sign: Sign | None, limit: int) -> Tensor:
    """Indices (≤ limit,) of the best neurons by |score|, best first; ties in storage order.

    sign: both | positive | negative, of what the neuron does to the word; None is both. Raises HeadlampError
    as `check_ranking` and `WordScores.by` do.
    """
    check_ranking(by, sign)
    values = scores.by(by)
    wanted = {"positive": 1, "negative": -1}.get(sign or "both", 0)
    allowed = (scores.sign(by) == wanted) | (wanted == 0)
    order = torch.argsort(values.abs(), descending=True, stable=True)
    return order[allowed[order]][:limit]
