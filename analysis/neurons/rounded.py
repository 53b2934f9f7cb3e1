"""Decoding with a product in bfloat16, several times as fast on CPUs that have it, exact all the same.

Every token that rounding could have kept from the k best is scored again in float32 (METHODS §1, bf16).
"""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.anatomy.head_matrix import HeadMatrix
from analysis.neurons.vocabulary_scan import VocabularyScan, scan_vocabulary
from analysis.pulse import Pulse

UNIT = 2.0**-8
"""Unit roundoff of bfloat16: |rounded − x| ≤ UNIT · |x|."""

SPARE, SPARE_ROUNDED = 8, 40
"""Tokens kept beyond the k best: where both factors are exact in bfloat16, and where one is rounded."""

LOG_Z_ERROR = 1e-3
"""Largest error of log Σ exp z that is let pass; neurons beyond are decoded in float32."""

AT_ONCE = 1 << 18
"""Numbers of head rows gathered together when tokens are scored again."""

Columns = tuple[Tensor, ...]
"""Top ids and z, bottom ids and z (n, k); log_z, mean, deviation, entropy, kurtosis (n,), float64."""


def measure_bound(
    logits: Tensor, lengths: Tensor, row_lengths: Tensor, width: int, unit_vectors: float, unit_rows: float
) -> Tensor:
    """Largest |z̃ − z| of logits z̃ from a product in bfloat16 with sums in float32, rounded to bfloat16.

    (ε_w + ε_h + ε_w ε_h + γ_d (1 + ε_w)(1 + ε_h)) ‖w‖ ‖h‖ + 2⁻⁸ |z̃|. logits, lengths ‖w‖ and row_lengths ‖h‖
    broadcast; width d; unit_vectors ε_w and unit_rows ε_h: UNIT, or 0 for what bfloat16 holds exactly.
    """
    gamma = width * 2.0**-24 / (1 - width * 2.0**-24)
    both = unit_vectors + unit_rows + unit_vectors * unit_rows
    factor = both + gamma * (1 + unit_vectors) * (1 + unit_rows)
    return factor * lengths * row_lengths + UNIT * logits.abs()


def is_large(tokens: int, k: int) -> bool:
    """Whether a vocabulary is so large that the tokens kept at both ends are few of it."""
    return tokens > 4 * (k + SPARE_ROUNDED + 1)


def scan_rounded(vectors: Tensor, head: HeadMatrix, k: int, pulse: Pulse) -> tuple[Columns, Tensor]:
    """Decode vectors (n, d) over `is_large` vocabularies; returns the columns, and the rows (n,) bool for
    which they hold.

    Tokens and their z are those of float32 wherever the bound proves that no other token belongs among them.
    log_z and entropy are summed in float32 over z̃, the tokens scored again with their own z: off by at most
    2⁻⁸ max |z|; rows where twice the standard deviation of independent errors, and their bias, exceed
    LOG_Z_ERROR do not hold either (SmolLM2, down: 2e-4 at most measured).
    """
    rounded = vectors.bfloat16()
    exact = torch.equal(rounded.float(), vectors)
    rounding = head.rounding
    kept = k + (SPARE if exact and rounding.exact else SPARE_ROUNDED)
    centre = rounded.double() @ rounding.mean
    scan = scan_vocabulary(rounded, head, kept + 1, centre, product="bfloat16", pulse=pulse)
    units = 0.0 if exact else UNIT, 0.0 if rounding.exact else UNIT
    top, top_holds, change = _rescore(vectors, head, scan, k, kept, units, sign=1)
    bottom, bottom_holds, low = _rescore(vectors, head, scan, k, kept, units, sign=-1)
    mean, deviation = head.measure_spread(vectors)
    sums = scan.sums
    sums.mass += change[0]
    sums.moment += change[1]
    sums.fourth += change[2] + low[2]
    log_mass = sums.measure_log_mass()
    log_z = mean + (sums.centre.double() - centre) + log_mass
    holds = top_holds & bottom_holds & (_log_z_error(scan, kept, log_z) <= LOG_Z_ERROR)
    rest = log_z, mean, deviation, sums.measure_entropy(), sums.measure_kurtosis(deviation, head.tokens)
    return (*top, *bottom, *rest), holds


def _rescore(
    vectors: Tensor,
    head: HeadMatrix,
    scan: VocabularyScan,
    k: int,
    kept: int,
    units: tuple[float, float],
    *,
    sign: int,
) -> tuple[tuple[Tensor, Tensor], Tensor, Columns]:
    """The k best of one end: (ids, z), the rows for which no other token can be among them, and what
    their exact z add to mass, moment and fourth moment.
    """
    near, ids = scan.top if sign > 0 else scan.bottom
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)

    def bound(logits: Tensor, row_lengths: Tensor) -> Tensor:
        return measure_bound(logits, lengths, row_lengths, vectors.shape[1], *units)

    longest = head.rounding.lengths.max()
    left = sign * near[:, kept:]
    near, ids = near[:, :kept], ids[:, :kept]
    ids, order = ids.sort(dim=-1)
    near = near.gather(1, order)
    z = torch.full_like(near, -torch.inf)
    first = (sign * near).topk(k).indices
    z.scatter_(1, first, sign * _score_tokens(vectors, head, ids.gather(1, first)))
    least = z.topk(k).values[:, -1:]
    doubtful = sign * near + bound(near, head.rounding.lengths[ids.long()]) >= least
    row, column = (doubtful & z.isinf()).nonzero().unbind(1)
    z[row, column] = sign * _score_tokens(vectors[row], head, ids[row, column, None])[:, 0]
    best, where = z.sort(dim=-1, descending=True, stable=True)
    holds = (left + bound(left, longest) < best[:, k - 1 : k])[:, 0]
    change = _exchange(scan, near, torch.where(z.isinf(), near, sign * z))
    return (ids.gather(1, where[:, :k]), sign * best[:, :k]), holds, change


def _score_tokens(vectors: Tensor, head: HeadMatrix, ids: Tensor) -> Tensor:
    """z (n, c) in float32 of vectors (n, d) and tokens (n, c). Equal rows of the head give equal bits."""
    z = torch.empty(ids.shape, device=ids.device)
    step = max(1, AT_ONCE // (ids.shape[1] * vectors.shape[1]))
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        products = head.rows[ids[part].long()]
        products *= vectors[part, None]
        torch.sum(products, -1, out=z[part])
    return z


def _exchange(scan: VocabularyScan, near: Tensor, z: Tensor) -> Columns:
    """What mass, moment and fourth moment (n,) gain if z takes the place of z̃ (n, c)."""
    was, now = (one.double() - scan.sums.centre.double()[:, None] for one in (near, z))
    fourth = now.pow(4) - was.pow(4)
    was, now = (one - scan.sums.above.double()[:, None] for one in (was, now))
    mass, moment = now.exp() - was.exp(), now.exp() * now - was.exp() * was
    return mass.sum(-1), moment.sum(-1), fourth.sum(-1)


def _log_z_error(scan: VocabularyScan, kept: int, log_z: Tensor) -> Tensor:
    """(n,) what rounding may have done to log_z: 2 standard deviations and the bias of independent errors.

    The mean square of the errors, weighted by p, is at most p of the largest z̃ left unchanged, times theirs.
    """
    top, bottom = scan.top[0][:, kept].double(), scan.bottom[0][:, kept].double()
    error = UNIT * torch.maximum(top.abs(), bottom.abs())
    largest = (top - log_z).exp()
    return 2 * error * (largest / 3).sqrt() + error.square() / 6
