"""LM-head neuron decoding: which tokens a neuron's vector promotes and demotes (METHODS §1).

Davies 2025, arXiv 2501.02688:  z_i = scale · W_U · n(w_i),  p_i = softmax(z_i),  label = argmax p_i.
Exact over the whole vocabulary. Neurons and vocabulary are both tiled, so the peak extra memory depends on
the tile alone, never on FFN width × vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from analysis.anatomy.anatomy import Anatomy, Block, Norm, Site
from analysis.anatomy.head_matrix import NEURON_TILE, VOCAB_TILE, HeadMatrix, exact
from analysis.errors import HeadlampError
from analysis.pulse import Pulse

METHOD_VERSION = "1"
NeuronNorm = Literal["none", "unit", "final", "through"]
NORMS: tuple[NeuronNorm, ...] = get_args(NeuronNorm)

GROUP = 64
"""Group size in the exact top-k: the k groups with the largest maxima hold the k largest entries."""


@dataclass(frozen=True)
class Decoding:
    """What m neurons of one block decode to at one site.

    top_ids, bottom_ids (m, k) int32, best first; top_logits, bottom_logits (m, k) float32: z;
    log_z, mean, deviation, entropy (nats), weight_norm (m,) float32; p = exp(z − log_z).
    """

    top_ids: Tensor
    top_logits: Tensor
    bottom_ids: Tensor
    bottom_logits: Tensor
    log_z: Tensor
    mean: Tensor
    deviation: Tensor
    entropy: Tensor
    weight_norm: Tensor

    def __post_init__(self) -> None:
        m, k = self.top_ids.shape
        pairs = (self.top_logits, self.bottom_ids, self.bottom_logits)
        singles = (self.log_z, self.mean, self.deviation, self.entropy, self.weight_norm)
        if any(t.shape != (m, k) for t in pairs) or any(t.shape != (m,) for t in singles):
            raise ValueError("a Decoding's arrays must all describe the same neurons")


def read_block_vectors(
    anatomy: Anatomy, block: Block, parameters: Mapping[str, Tensor], site: Site, norm: NeuronNorm = "none"
) -> Tensor:
    """(m, d) float32: n(w) of every neuron of a block at a site. Raises AddressOutOfRange for a missing gate.

    none: w · unit: w/‖w‖ · final: γ ⊙ centre?(w)/rms(w), through the final norm · through: γ_in ⊙ w for up
    and gate, γ_post ⊙ w for down where the model has a norm after the FFN (else w).
    """
    vectors = exact(block.view(site).vectors(parameters))
    if norm == "unit":
        lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        return vectors / lengths.clamp(min=1e-12)
    if norm == "final":
        return _through_final_norm(vectors, anatomy.final_norm, parameters)
    if norm == "through":
        near = block.post_norm if site == "down" else block.input_norm
        return vectors if near is None else vectors * near.scale(parameters).to(vectors.device)
    if norm != "none":
        raise HeadlampError(f"norm {norm!r} is unknown; choose {', '.join(NORMS)}")
    return vectors


def parameters_read(anatomy: Anatomy, block: Block, site: Site, norm: NeuronNorm = "none") -> set[str]:
    """The names of the parameters read by `read_block_vectors`."""
    near = block.post_norm if site == "down" else block.input_norm
    beside = {"final": anatomy.final_norm, "through": near}.get(norm)
    names = {block.view(site).parameter, None if beside is None else beside.parameter}
    return {name for name in names if name is not None}


def decode_vectors(
    vectors: Tensor,
    head: HeadMatrix,
    top_k: int = 10,
    *,
    weight_norm: Tensor | None = None,
    pulse: Pulse = lambda done, total: None,
) -> Decoding:
    """Decode vectors (m, d), already n(w). top_k is cut to the vocabulary. Entropy in [0, log V] nats.

    weight_norm (m,): ‖w‖ of the vectors as they are stored; that of `vectors` where None. pulse: called
    before every tile with (tiles done, tiles in all); an exception it raises ends the decoding.
    """
    if top_k < 1:
        raise HeadlampError(f"top-k {top_k}: choose at least 1")
    k = min(top_k, head.tokens)
    vectors = vectors.to(head.rows.device)
    steps = _TileCounter(pulse, _tiles(len(vectors), NEURON_TILE) * _tiles(head.vocab, VOCAB_TILE))
    tiles = [
        _decode_tile(vectors[i : i + NEURON_TILE], head, k, steps)
        for i in range(0, len(vectors), NEURON_TILE)
    ]
    columns = [torch.cat(parts).cpu() for parts in zip(*tiles, strict=True)]
    lengths = torch.linalg.vector_norm(vectors, dim=-1) if weight_norm is None else weight_norm
    columns.append(lengths.float().cpu())
    return Decoding(*columns)


class _TileCounter:
    """Counts tiles for a pulse callback."""

    def __init__(self, pulse: Pulse, total: int) -> None:
        self._pulse, self._done, self._total = pulse, 0, total

    def next(self) -> None:
        self._pulse(self._done, self._total)
        self._done += 1


def _tiles(count: int, size: int) -> int:
    return -(-count // size)


def _decode_tile(vectors: Tensor, head: HeadMatrix, k: int, steps: _TileCounter) -> tuple[Tensor, ...]:
    """One tile of neurons against the whole vocabulary, a tile of tokens at a time.

    mass = Σ exp(z − max) and moment = Σ exp(z − max)·(z − max), rescaled as the maximum grows; so
    log_z = max + log mass and the entropy log mass − moment/mass lose nothing to cancellation.
    """
    tops: list[tuple[Tensor, Tensor]] = []
    bottoms: list[tuple[Tensor, Tensor]] = []
    largest = torch.full((len(vectors),), -torch.inf, device=vectors.device)
    mass = torch.zeros(len(vectors), dtype=torch.float64, device=vectors.device)
    moment = torch.zeros_like(mass)
    for start in range(0, head.vocab, VOCAB_TILE):
        steps.next()
        rows, ids = head.tile(start, VOCAB_TILE)
        if not len(rows):
            continue  # nothing but holes
        z = vectors @ rows.T
        tops.append(_best_of_tile(z, k, start, ids, largest=True))
        bottoms.append(_best_of_tile(z, k, start, ids, largest=False))
        new = torch.maximum(largest, tops[-1][0][:, 0])
        below = z - new[:, None]
        weight = torch.exp(below)
        drop = torch.where(largest.isinf(), 0.0, largest - new).double()
        moment = (moment + mass * drop) * drop.exp() + (weight * below).sum(-1).double()
        mass = mass * drop.exp() + weight.sum(-1).double()
        largest = new
    log_z = largest.double() + mass.log()
    top_z, top_ids = _merge(tops, k, largest=True)
    bottom_z, bottom_ids = _merge(bottoms, k, largest=False)
    mean, deviation = head.measure_spread(vectors)
    entropy = (mass.log() - moment / mass).clamp(min=0)
    return (
        *(top_ids, top_z, bottom_ids, bottom_z),
        *(t.float() for t in (log_z, mean, deviation, entropy)),
    )


def _best_of_tile(
    z: Tensor, k: int, start: int, ids: Tensor | None, *, largest: bool
) -> tuple[Tensor, Tensor]:
    """`_extremes` of one tile; ids (v,): the token of each column, None where they count from start."""
    if ids is None:
        return _extremes(z, k, start, largest=largest)
    values, columns = _extremes(z, k, 0, largest=largest)
    return values, ids[columns.long()].int()


def _extremes(z: Tensor, k: int, offset: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """The k largest (smallest) of every row of z (n, v), exact, without a full sort; ids start at offset."""
    k = min(k, z.shape[1])
    whole = z.shape[1] // GROUP * GROUP
    if whole // GROUP <= 2 * k:
        values, ids = z.topk(k, largest=largest)
        return values, (ids + offset).int()
    groups = z[:, :whole].view(len(z), -1, GROUP)
    best = (groups.amax(-1) if largest else groups.amin(-1)).topk(k, largest=largest).indices
    inside = groups.gather(1, best[..., None].expand(-1, -1, GROUP)).flatten(1)
    ids = (best[..., None] * GROUP + torch.arange(GROUP, device=z.device)).flatten(1)
    rest = torch.arange(whole, z.shape[1], device=z.device).expand(len(z), -1)
    values, where = torch.cat([inside, z[:, whole:]], 1).topk(k, largest=largest)
    return values, (torch.cat([ids, rest], 1).gather(1, where) + offset).int()


def _merge(parts: list[tuple[Tensor, Tensor]], k: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    values = torch.cat([value for value, _ in parts], 1)
    ids = torch.cat([i for _, i in parts], 1)
    best, where = values.topk(k, largest=largest)
    return best, ids.gather(1, where)


def _through_final_norm(vectors: Tensor, norm: Norm, parameters: Mapping[str, Tensor]) -> Tensor:
    if norm.kind == "layer":
        vectors = vectors - vectors.mean(-1, keepdim=True)
    rms = vectors.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
    return vectors / rms * norm.scale(parameters).to(vectors.device)
