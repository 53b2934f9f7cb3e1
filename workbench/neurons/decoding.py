"""Decoding of a whole model, once (its map), then browsing from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block, Site
from analysis.errors import HeadlampError
from analysis.neurons import decoding
from analysis.neurons.decoding import Decoding, NeuronNorm, parameters_read, read_block_vectors
from analysis.opening.fetching import fetching
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import TokenKind
from analysis.pulse import Pulse
from store import RunSpec, Store, find_run, read_arrays
from workbench.kinds import Kind
from workbench.runs import (
    DoneUnit,
    FinishedRun,
    Progress,
    UnitResult,
    run_missing_units,
    run_spec,
    time_units,
)

TOP_K = 10
LONGEST_PAGE = 500
"""Largest number of rows sent to a browser; filtering, sorting and paging happen here."""

_FIELDS = tuple(Decoding.__dataclass_fields__)
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
IntArray = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class NeuronIndex:
    """The neurons of some blocks, all blocks concatenated (n neurons).

    first[b] is the start of block b, layer (n,) each neuron's layer.
    """

    blocks: tuple[Block, ...]
    first: IntArray
    layer: IntArray

    def __len__(self) -> int:
        return len(self.layer)

    def address(self, index: int) -> NeuronAddress:
        """The address of the index-th neuron."""
        block = int(np.searchsorted(self.first, index, side="right")) - 1
        return NeuronAddress(self.blocks[block].address, int(index - self.first[block]))

    def index(self, address: NeuronAddress) -> int:
        """The index of a neuron in the arrays."""
        block = next(b for b, found in enumerate(self.blocks) if found.address == address.block)
        return int(self.first[block]) + address.neuron


@dataclass(frozen=True)
class DecodedModel(NeuronIndex):
    """A whole model's decoding at one site, all blocks concatenated (n neurons, k tokens).

    Arrays as in analysis.neurons.decoding.Decoding.
    """

    run: str
    top_ids: IntArray
    top_logits: FloatArray
    bottom_ids: IntArray
    bottom_logits: FloatArray
    log_z: FloatArray
    mean: FloatArray
    deviation: FloatArray
    entropy: FloatArray
    weight_norm: FloatArray

    def probability(self, rows: Any = slice(None), *, bottom: bool = False) -> FloatArray:
        """(…, k) p of the top (bottom) tokens of some neurons."""
        logits = self.bottom_logits if bottom else self.top_logits
        return np.asarray(np.exp(logits[rows] - self.log_z[rows, None]))


def decode_spec(loaded: LoadedModel, site: Site, norm: NeuronNorm, top_k: int) -> RunSpec:
    """The run that decodes every block of a model at one site; one unit per block that has the site."""
    if top_k < 1:
        raise HeadlampError(f"top-k {top_k}: choose at least 1")
    blocks = blocks_with(loaded, site)
    parameters = {"site": site, "norm": norm, "top_k": top_k, "vocab": len(loaded.vocabulary)}
    return run_spec(loaded, "decode", decoding.METHOD_VERSION, parameters, units=len(blocks))


def blocks_with(loaded: LoadedModel, site: Site) -> tuple[Block, ...]:
    """The blocks that have a site. Raises HeadlampError where none has, naming the sites there are."""
    if site not in loaded.anatomy.sites:
        raise HeadlampError(f"site {site!r}: {loaded.ref.name} has {', '.join(loaded.anatomy.sites)}")
    return tuple(b for b in loaded.anatomy.blocks if site != "gate" or b.gated)


def index_neurons(blocks: Sequence[Block]) -> NeuronIndex:
    """The neurons of these blocks, in order."""
    sizes = np.array([block.d_ff for block in blocks])
    return NeuronIndex(
        blocks=tuple(blocks),
        first=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32),
        layer=np.repeat([block.address.layer for block in blocks], sizes).astype(np.int32),
    )


def decode_model(
    loaded: LoadedModel,
    store: Store,
    *,
    site: Site = "down",
    norm: NeuronNorm = "none",
    top_k: int = TOP_K,
    progress: Progress = lambda done, total: None,
) -> FinishedRun:
    """Decode every neuron at a site into the store, without a job; stored blocks are reused."""
    parameters = {"site": site, "norm": norm, "top_k": top_k}

    def units(missing: Sequence[int]) -> Iterable[DoneUnit]:
        return time_units(_decode_blocks(loaded, parameters, missing, lambda done, total: None))

    return run_missing_units(store, decode_spec(loaded, site, norm, top_k), units, progress)


def _decode_blocks(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    site, norm = parameters["site"], parameters["norm"]
    blocks = blocks_with(loaded, site)
    reads = [parameters_read(loaded.anatomy, blocks[index], site, norm) for index in units]
    with fetching(loaded, reads, pulse) as done:
        for index in units:
            found = _decode_block(loaded, blocks[index], parameters, pulse)
            arrays = {name: getattr(found, name).numpy() for name in _FIELDS}
            yield index, UnitResult(str(blocks[index].address), arrays)
            done()


def _decode_block(loaded: LoadedModel, block: Block, parameters: Mapping[str, Any], pulse: Pulse) -> Decoding:
    site, norm, top_k = (parameters[name] for name in DECODE.parameters)
    vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
    stored = read_block_vectors(loaded.anatomy, block, loaded.parameters, site)
    with torch.inference_mode():
        lengths = torch.linalg.vector_norm(stored, dim=-1)
        return decoding.decode_vectors(vectors, loaded.head, top_k, weight_norm=lengths, pulse=pulse)


DECODE = Kind(
    name="decode",
    unit="blocks",
    parameters=("site", "norm", "top_k"),
    title=lambda asked: f"Decode at {asked['site']}, norm {asked['norm']}",
    spec=lambda loaded, asked: decode_spec(loaded, asked["site"], asked["norm"], asked["top_k"]),
    compute=_decode_blocks,
)


def read_decoded(loaded: LoadedModel, store: Store, run: str, site: Site) -> DecodedModel:
    """A finished decoding from the store; the last few are cached in memory."""
    return _read_decoded(store, run, blocks_with(loaded, site))


def find_decoded(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm) -> DecodedModel | None:
    """The model's map at a site and norm: its stored decoding, if that is finished, else None."""
    run = find_run(store, decode_spec(loaded, site, norm, TOP_K).key)
    return read_decoded(loaded, store, run.key, site) if run is not None and run.finished else None


@lru_cache(maxsize=6)
def _read_decoded(store: Store, run: str, blocks: tuple[Block, ...]) -> DecodedModel:
    arrays = {name: np.concatenate(read_arrays(store, run, name)) for name in _FIELDS}
    places = index_neurons(blocks)
    return DecodedModel(blocks=blocks, first=places.first, layer=places.layer, run=run, **arrays)


@dataclass(frozen=True)
class NeuronFilter:
    """Which neurons a table shows, and in which order.

    layers: first and last, both included. minimum: smallest label probability. kinds: of the label; all if
    empty.
    end: whether the label is the top or the bottom token. order: `probability` (largest first), `entropy`
    (smallest first), `weight_norm` (largest first) or `address`.
    """

    layers: tuple[int, int] | None = None
    minimum: float = 0.0
    kinds: frozenset[TokenKind] = frozenset()
    end: Literal["top", "bottom"] = "top"
    order: Literal["probability", "entropy", "weight_norm", "address"] = "probability"


def filter_neurons(loaded: LoadedModel, decoded: DecodedModel, wanted: NeuronFilter) -> IntArray:
    """Indices of the neurons that pass the filter, in order."""
    label_p = decoded.probability(bottom=wanted.end == "bottom")[:, 0]
    keep = label_p >= wanted.minimum
    if wanted.layers is not None:
        keep &= (decoded.layer >= wanted.layers[0]) & (decoded.layer <= wanted.layers[1])
    if wanted.kinds:
        ids = decoded.top_ids if wanted.end == "top" else decoded.bottom_ids
        kinds = np.isin(loaded.vocabulary.kinds, sorted(wanted.kinds))
        keep &= kinds[ids[:, 0]]
    index = np.flatnonzero(keep)
    keys: dict[str, np.ndarray[Any, Any]] = {
        "probability": -label_p,
        "entropy": decoded.entropy,
        "weight_norm": -decoded.weight_norm,
        "address": np.arange(len(decoded)),
    }
    order = np.argsort(keys[wanted.order][index], kind="stable")
    return np.asarray(index[order], dtype=np.int32)
