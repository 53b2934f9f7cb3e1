"""One pass of many neurons over the whole vocabulary, in tiles of both: extremes and sums (METHODS §1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from analysis.anatomy.head_matrix import NEURON_TILE, VOCAB_TILE, HeadMatrix
from analysis.neurons.extremes import GROUP, Best, Extremes
from analysis.neurons.vocabulary_sums import STRIP, VocabularySums
from analysis.pulse import Pulse

Product = Literal["float32", "bfloat16"]
PRODUCTS: tuple[Product, ...] = get_args(Product)


@dataclass(frozen=True)
class VocabularyScan:
    """What a pass over the vocabulary finds of m neurons: their k largest and smallest logits, and sums."""

    top: Best
    bottom: Best
    sums: VocabularySums


def scan_vocabulary(
    vectors: Tensor, head: HeadMatrix, k: int, centre: Tensor, *, product: Product, pulse: Pulse
) -> VocabularyScan:
    """Multiply vectors (m, d) with every token's row of the head, in float32 or rounded to bfloat16.

    centre (m,): about the mean of each neuron's logits. Of equal logits in float32 the one of the smallest
    id comes first; in bfloat16, where many are equal, any. Tokens are the outer loop, so that rows are
    gathered and rounded once.
    """
    vectors = vectors.to(getattr(torch, product))
    parts = [slice(start, start + NEURON_TILE) for start in range(0, len(vectors), NEURON_TILE)]
    starts = range(0, head.vocab, VOCAB_TILE)
    sums, ids = VocabularySums(centre), list[Tensor]()
    ends = [[_start_extremes(vectors[part], k, sign, product) for sign in (1, -1)] for part in parts]
    space = _allocate(vectors, head)
    for number, start in enumerate(starts):
        rows, own = _read_tile(head, start, vectors.dtype)
        place = sum(len(one) for one in ids) // GROUP
        for at, part in enumerate(parts):
            pulse(number * len(parts) + at, len(starts) * len(parts))
            if len(rows):
                _add_tile(space, vectors[part], rows, part.start, sums, ends[at], place)
        ids.append(own)
    names = torch.cat(ids)
    top, bottom = (_join([end[side].finish(k) for end in ends], names) for side in (0, 1))
    return VocabularyScan(top, bottom, sums)


@dataclass(frozen=True)
class _Space:
    """Memory that every tile uses again: fresh pages would cost as much as a pass."""

    logits: Tensor
    scratch: Tensor


def _allocate(vectors: Tensor, head: HeadMatrix) -> _Space:
    neurons, tokens = min(len(vectors), NEURON_TILE), _fill_up(min(head.vocab, VOCAB_TILE))
    tile = neurons * tokens
    strip = tile if vectors.is_cuda else min(STRIP * torch.get_num_threads(), tile)
    scratch = torch.empty(2 * max(strip, tokens), device=vectors.device)
    return _Space(torch.empty(tile, dtype=vectors.dtype, device=vectors.device), scratch)


def _fill_up(columns: int) -> int:
    return -(-columns // GROUP) * GROUP


def _start_extremes(vectors: Tensor, k: int, sign: int, product: Product) -> Extremes:
    return Extremes(len(vectors), k, sign=sign, rounded=product != "float32", device=vectors.device)


def _read_tile(head: HeadMatrix, start: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows (v, d) of a tile's tokens, and their ids, int32, filled up to whole groups with −1."""
    rows, ids = head.tile(start, VOCAB_TILE, dtype)
    if ids is None:
        ids = torch.arange(start, start + len(rows), device=rows.device)
    return rows, pad(ids.int(), (0, _fill_up(len(ids)) - len(ids)), value=-1)


def _add_tile(
    space: _Space,
    vectors: Tensor,
    rows: Tensor,
    first: int,
    sums: VocabularySums,
    ends: list[Extremes],
    place: int,
) -> None:
    """One tile: the product, its sums, and the extremes of both ends."""
    n, v = len(vectors), len(rows)
    whole = space.logits[: n * _fill_up(v)].view(n, -1)
    z = torch.mm(vectors, rows.T, out=whole[:, :v])
    high, low = sums.add(z, slice(first, first + n), space.scratch)
    for end, heights, sign in zip(ends, (high, low.neg_()), (1, -1), strict=True):
        whole[:, v:] = -sign * torch.inf
        end.add(whole.unflatten(1, (-1, GROUP)), heights, place)


def _join(parts: list[Best], names: Tensor) -> Best:
    """The best of all neurons; names: the token of every place."""
    places = torch.cat([where for _, where in parts])
    return torch.cat([values for values, _ in parts]), names[places]
