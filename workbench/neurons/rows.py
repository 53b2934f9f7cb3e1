"""The tokens of some neurons: from the model's stored map, else by decoding their own vectors alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.neurons.decoding import Decoding, NeuronNorm, decode_vectors, read_block_vectors
from analysis.neurons.io_cosines import IoCosines, measure_io_cosines
from analysis.opening.models import LoadedModel
from store import Store
from workbench.neurons.decoding import TOP_K, DecodedModel, find_decoded
from workbench.records import write_record

SHAPE = ("kurtosis", "up_gate", "up_down", "gate_down")
"""Numbers of a neuron's vectors that maps of earlier versions lack."""


@dataclass(frozen=True)
class TokenScore:
    """One token a neuron decodes to. token: its exact text."""

    token_id: int
    token: str
    logit: float
    probability: float


@dataclass(frozen=True)
class DecodedNeuron:
    """One row of the table. kurtosis, and the cosines of the neuron's own vectors (up_gate, up_down,
    gate_down): None where an earlier version made the map, or where there is none: no gate, no spread.
    """

    address: NeuronAddress
    top: tuple[TokenScore, ...]
    bottom: tuple[TokenScore, ...]
    weight_norm: float
    log_z: float
    entropy: float
    kurtosis: float | None = None
    up_gate: float | None = None
    up_down: float | None = None
    gate_down: float | None = None

    def to_document(self) -> dict[str, Any]:
        """As `neuron --json` prints one site."""
        return {
            "top": [write_record(score) for score in self.top],
            "bottom": [write_record(score) for score in self.bottom],
            "log_z": self.log_z,
            "weight_norm": self.weight_norm,
        } | {name: getattr(self, name) for name in SHAPE}


def decode_rows(
    loaded: LoadedModel,
    store: Store,
    addresses: Sequence[NeuronAddress],
    *,
    site: Site,
    norm: NeuronNorm = "none",
) -> list[DecodedNeuron]:
    """These neurons' tokens at a site, in order: read from the stored map where there is one, else decoded.

    Decoding reads the blocks that the neurons lie in, one at a time. Raises AddressOutOfRange where a block
    has no such site.
    """
    decoded = find_decoded(loaded, store, site, norm)
    if decoded is not None:
        return list(read_rows(loaded, decoded, [decoded.index(address) for address in addresses]))
    return decode_alone(loaded, addresses, site=site, norm=norm)


def decode_alone(
    loaded: LoadedModel, addresses: Sequence[NeuronAddress], *, site: Site, norm: NeuronNorm = "none"
) -> list[DecodedNeuron]:
    """Decode these neurons' own vectors, and no others. Raises AddressOutOfRange for a missing site."""
    if not addresses:
        return []
    with torch.inference_mode():
        vectors, lengths = _gather_vectors(loaded, addresses, site, norm)
        found = decode_vectors(vectors, loaded.head, TOP_K, weight_norm=lengths)
        cosines = _gather_cosines(loaded, addresses)
    arrays = {name: getattr(found, name).numpy() for name in Decoding.__dataclass_fields__} | cosines
    return [_make_row(loaded, address, arrays, i) for i, address in enumerate(addresses)]


def _gather_vectors(
    loaded: LoadedModel, addresses: Sequence[NeuronAddress], site: Site, norm: NeuronNorm
) -> tuple[torch.Tensor, torch.Tensor]:
    """n(w) (n, d) and ‖w‖ (n,) of these neurons, in order; each block is read once."""
    vectors: dict[NeuronAddress, torch.Tensor] = {}
    lengths: dict[NeuronAddress, torch.Tensor] = {}
    for block in dict.fromkeys(loaded.anatomy.block(address) for address in addresses):
        stored = read_block_vectors(loaded.anatomy, block, loaded.parameters, site)
        normed = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
        for address in addresses:
            if address.block == block.address:
                vectors[address] = normed[address.neuron].to(loaded.head.rows.device)
                lengths[address] = torch.linalg.vector_norm(stored[address.neuron]).cpu()
    return (
        torch.stack([vectors[address] for address in addresses]),
        torch.stack([lengths[address] for address in addresses]),
    )


def _gather_cosines(loaded: LoadedModel, addresses: Sequence[NeuronAddress]) -> dict[str, Any]:
    """The cosines of these neurons' own vectors (n,), in order, by name."""
    blocks = dict.fromkeys(loaded.anatomy.block(address) for address in addresses)
    found = {block.address: measure_io_cosines(block, loaded.parameters) for block in blocks}
    return {
        name: np.array([float(getattr(found[a.block], name)[a.neuron]) for a in addresses])
        for name in IoCosines.__dataclass_fields__
    }


def read_rows(loaded: LoadedModel, decoded: DecodedModel, indices: Sequence[int]) -> Iterator[DecodedNeuron]:
    """The decoded neurons at some indices, one at a time, so that an export of millions streams."""
    for index in indices:
        yield _make_row(loaded, decoded.address(int(index)), vars(decoded), int(index))


def _make_row(
    loaded: LoadedModel, address: NeuronAddress, arrays: dict[str, Any], index: int
) -> DecodedNeuron:
    return DecodedNeuron(
        address=address,
        top=_list_tokens(loaded, arrays, index, "top"),
        bottom=_list_tokens(loaded, arrays, index, "bottom"),
        weight_norm=float(arrays["weight_norm"][index]),
        log_z=float(arrays["log_z"][index]),
        entropy=float(arrays["entropy"][index]),
        **{name: _finite(arrays[name][index]) for name in SHAPE},
    )


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None


def _list_tokens(loaded: LoadedModel, arrays: dict[str, Any], index: int, end: str) -> tuple[TokenScore, ...]:
    ids, logits = arrays[f"{end}_ids"][index], arrays[f"{end}_logits"][index]
    texts = loaded.vocabulary.texts
    p = np.exp(logits.astype(np.float64) - float(arrays["log_z"][index]))
    return tuple(
        TokenScore(int(i), texts[int(i)], float(z), float(q)) for i, z, q in zip(ids, logits, p, strict=True)
    )
