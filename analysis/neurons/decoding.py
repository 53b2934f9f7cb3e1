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
from analysis.anatomy.head_matrix import HeadMatrix, exact
from analysis.errors import HeadlampError
from analysis.neurons.rounded import Columns, is_large, scan_rounded
from analysis.neurons.vocabulary_scan import PRODUCTS, Product, scan_vocabulary
from analysis.pulse import Pulse

METHOD_VERSION = "1"
NeuronNorm = Literal["none", "unit", "final", "through"]
NORMS: tuple[NeuronNorm, ...] = get_args(NeuronNorm)


@dataclass(frozen=True)
class Decoding:
    """What m neurons of one block decode to at one site.

    top_ids, bottom_ids (m, k) int32, best first; top_logits, bottom_logits (m, k) float32: z;
    log_z, mean, deviation, entropy (nats), weight_norm (m,) float32; p = exp(z − log_z). kurtosis (m,)
    float32, ≥ −2: Σ(z − μ)⁴/(V σ⁴) − 3, 0 for a normal distribution, NaN where σ is 0.
    """

    top_ids: Tensor
    top_logits: Tensor
    bottom_ids: Tensor
    bottom_logits: Tensor
    log_z: Tensor
    mean: Tensor
    deviation: Tensor
    entropy: Tensor
    kurtosis: Tensor
    weight_norm: Tensor

    def __post_init__(self) -> None:
        m, k = self.top_ids.shape
        pairs = (self.top_logits, self.bottom_ids, self.bottom_logits)
        singles = (self.log_z, self.mean, self.deviation, self.entropy, self.kurtosis)
        if any(t.shape != (m, k) for t in pairs) or any(
            t.shape != (m,) for t in (*singles, self.weight_norm)
        ):
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
    product: Product = "float32",
    pulse: Pulse = lambda done, total: None,
) -> Decoding:
    """Decode vectors (m, d), already n(w). top_k is cut to the vocabulary. Entropy in [0, log V] nats.

    weight_norm (m,): ‖w‖ of the vectors as they are stored; that of `vectors` where None. product: the dtype
    in which vectors and head are multiplied; tokens, their z, mean and deviation are float32's in either
    (`scan_rounded`). pulse: called before every tile with (tiles done, tiles in all); an exception it
    raises ends the decoding.
    """
    if top_k < 1:
        raise HeadlampError(f"top-k {top_k}: choose at least 1")
    if product not in PRODUCTS:
        raise HeadlampError(f"product {product!r} is unknown; choose {', '.join(PRODUCTS)}")
    k = min(top_k, head.tokens)
    vectors = vectors.to(head.rows.device)
    small = product == "float32" or not is_large(head.tokens, k)
    decode = _decode_exactly if small else _decode_rounded
    ids, logits, low_ids, low_logits, *sums = decode(vectors, head, k, pulse)
    lengths = torch.linalg.vector_norm(vectors, dim=-1) if weight_norm is None else weight_norm
    singles = (column.float().cpu() for column in (*sums, lengths))
    return Decoding(ids.cpu(), logits.cpu(), low_ids.cpu(), low_logits.cpu(), *singles)


def _decode_exactly(vectors: Tensor, head: HeadMatrix, k: int, pulse: Pulse) -> Columns:
    mean, deviation = head.measure_spread(vectors)
    scan = scan_vocabulary(vectors, head, k, mean, product="float32", pulse=pulse)
    sums = scan.sums
    log_z = sums.centre.double() + sums.measure_log_mass()
    rest = log_z, mean, deviation, sums.measure_entropy(), sums.measure_kurtosis(deviation, head.tokens)
    return (*scan.top[::-1], *scan.bottom[::-1], *rest)


def _decode_rounded(vectors: Tensor, head: HeadMatrix, k: int, pulse: Pulse) -> Columns:
    """By `scan_rounded`; the rows for which that does not hold are decoded in float32."""
    columns, holds = scan_rounded(vectors, head, k, pulse)
    if not bool(holds.all()):
        again = _decode_exactly(vectors[~holds], head, k, lambda done, total: pulse(total, total))
        for column, exact_column in zip(columns, again, strict=True):
            column[~holds] = exact_column
    return columns


def _through_final_norm(vectors: Tensor, norm: Norm, parameters: Mapping[str, Tensor]) -> Tensor:
    if norm.kind == "layer":
        vectors = vectors - vectors.mean(-1, keepdim=True)
    rms = vectors.pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
    return vectors / rms * norm.scale(parameters).to(vectors.device)
