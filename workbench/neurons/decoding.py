"""Decoding of a whole model, once (its map), then browsing from the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Block, Site
from analysis.errors import HeadlampError
from analysis.neurons import decoding
from analysis.neurons.decoding import Decoding, NeuronNorm, parameters_read, read_block_vectors
from analysis.neurons.io_cosines import IoCosines, list_io_parameters, measure_io_cosines
from analysis.neurons.precision import choose_product, supports_bfloat16
from analysis.neurons.vocabulary_scan import PRODUCTS, Product
from analysis.opening.fetching import fetching
from analysis.opening.models import LoadedModel
from analysis.pulse import Pulse
from store import RunSpec, Store, find_run, read_arrays, read_arrays_held
from workbench.kinds import Kind, Order, make_order
from workbench.records import read_record
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
_COSINES = tuple(IoCosines.__dataclass_fields__)
_LATER = ("kurtosis", *_COSINES)
"""Arrays that maps of earlier versions lack."""

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

    Arrays as in analysis.neurons.decoding.Decoding and analysis.neurons.io_cosines.IoCosines; kurtosis and
    cosines are NaN in blocks that an earlier version decoded.
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
    kurtosis: FloatArray
    up_gate: FloatArray
    up_down: FloatArray
    gate_down: FloatArray

    def probability(self, rows: Any = slice(None), *, bottom: bool = False) -> FloatArray:
        """(…, k) p of the top (bottom) tokens of some neurons."""
        logits = self.bottom_logits if bottom else self.top_logits
        return np.asarray(np.exp(logits[rows] - self.log_z[rows, None]))


@dataclass(frozen=True)
class DecodeQuestion:
    """A map: every neuron at a site, behind a norm, with the top_k tokens of either end.

    product: the dtype it is computed in, float32 in runs of earlier versions.
    """

    site: Site = "down"
    norm: NeuronNorm = "none"
    top_k: int = TOP_K
    product: Product = "float32"


def decode_spec(
    loaded: LoadedModel, site: Site, norm: NeuronNorm, top_k: int, product: Product = "float32"
) -> RunSpec:
    """The run that decodes every block of a model at one site; one unit per block that has the site.

    A product in bfloat16 is part of the key; runs in float32 keep the key of earlier versions.
    """
    if top_k < 1:
        raise HeadlampError(f"top-k {top_k}: choose at least 1")
    blocks = blocks_with(loaded, site)
    parameters: dict[str, Any] = {"site": site, "norm": norm, "top_k": top_k, "vocab": len(loaded.vocabulary)}
    if product != "float32":
        parameters["product"] = product
    return run_spec(loaded, "decode", decoding.METHOD_VERSION, parameters, units=len(blocks))


def find_product(
    loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm, top_k: int = TOP_K
) -> Product:
    """The product of the stored map, finished before begun; where none is, the one this machine takes."""
    runs = {one: find_run(store, decode_spec(loaded, site, norm, top_k, one).key) for one in PRODUCTS}
    chosen = choose_product(loaded.anatomy, loaded.ref.device)
    finished = [one for one, run in runs.items() if run is not None and run.finished]
    begun = [one for one, run in runs.items() if run is not None and run.stored_units]
    here = [one for one in begun if one == "float32" or supports_bfloat16()]
    return next(iter([*finished, *here]), chosen)


def find_spec(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm, top_k: int = TOP_K) -> RunSpec:
    """The run of `find_product`."""
    return decode_spec(loaded, site, norm, top_k, find_product(loaded, store, site, norm, top_k))


def order_decoding(
    loaded: LoadedModel, store: Store, *, site: Site, norm: NeuronNorm, top_k: int = TOP_K
) -> Order:
    """The job that decodes a model at a site, or that the stored map was made by."""
    product = find_product(loaded, store, site, norm, top_k)
    return make_order(DECODE, loaded.ref, site=site, norm=norm, top_k=top_k, product=product)


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
    spec = find_spec(loaded, store, site, norm, top_k)

    def units(missing: Sequence[int]) -> Iterable[DoneUnit]:
        return time_units(_decode_blocks(loaded, spec.parameters, missing, lambda done, total: None))

    return run_missing_units(store, spec, units, progress)


def _decode_blocks(
    loaded: LoadedModel, parameters: Mapping[str, Any], units: Sequence[int], pulse: Pulse
) -> Iterator[tuple[int, UnitResult]]:
    asked = read_record(DecodeQuestion, parameters)
    blocks = blocks_with(loaded, asked.site)
    reads = [
        parameters_read(loaded.anatomy, block, asked.site, asked.norm) | list_io_parameters(block)
        for block in (blocks[index] for index in units)
    ]
    with fetching(loaded, reads, pulse) as done:
        for index in units:
            found = _decode_block(loaded, blocks[index], asked, pulse)
            cosines = measure_io_cosines(blocks[index], loaded.parameters)
            arrays = {name: getattr(found, name).numpy() for name in _FIELDS}
            arrays |= {name: getattr(cosines, name).numpy() for name in _COSINES}
            yield index, UnitResult(str(blocks[index].address), arrays)
            done()


def _decode_block(loaded: LoadedModel, block: Block, asked: DecodeQuestion, pulse: Pulse) -> Decoding:
    vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, asked.site, asked.norm)
    stored = read_block_vectors(loaded.anatomy, block, loaded.parameters, asked.site)
    with torch.inference_mode():
        lengths = torch.linalg.vector_norm(stored, dim=-1)
        return decoding.decode_vectors(
            vectors, loaded.head, asked.top_k, weight_norm=lengths, product=asked.product, pulse=pulse
        )


def _name_decoding(parameters: Mapping[str, Any]) -> str:
    asked = read_record(DecodeQuestion, parameters)
    return f"Decode at {asked.site}, norm {asked.norm}"


def _decode_spec(loaded: LoadedModel, parameters: Mapping[str, Any]) -> RunSpec:
    asked = read_record(DecodeQuestion, parameters)
    return decode_spec(loaded, asked.site, asked.norm, asked.top_k, asked.product)


DECODE = Kind(
    name="decode",
    unit="blocks",
    parameters=("site", "norm", "top_k"),
    defaults={"product": "float32"},
    title=_name_decoding,
    spec=_decode_spec,
    compute=_decode_blocks,
)


def read_decoded(loaded: LoadedModel, store: Store, run: str, site: Site) -> DecodedModel:
    """A finished decoding from the store; the last few are cached in memory."""
    return _read_decoded(store, run, blocks_with(loaded, site))


def find_decoded(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm) -> DecodedModel | None:
    """The model's map at a site and norm: its stored decoding, if that is finished, else None."""
    run = find_run(store, find_spec(loaded, store, site, norm).key)
    return read_decoded(loaded, store, run.key, site) if run is not None and run.finished else None


@lru_cache(maxsize=6)
def _read_decoded(store: Store, run: str, blocks: tuple[Block, ...]) -> DecodedModel:
    stored = [name for name in _FIELDS if name not in _LATER]
    arrays = {name: np.concatenate(read_arrays(store, run, name)) for name in stored}
    arrays |= {name: _read_later(store, run, name, blocks) for name in _LATER}
    places = index_neurons(blocks)
    return DecodedModel(blocks=blocks, first=places.first, layer=places.layer, run=run, **arrays)


def _read_later(store: Store, run: str, name: str, blocks: Sequence[Block]) -> FloatArray:
    """An array that earlier versions did not store; NaN where it is not there."""
    parts = read_arrays_held(store, run, name)
    absent = (np.full(block.d_ff, np.nan, np.float32) for block in blocks)
    return np.concatenate([fill if part is None else part for part, fill in zip(parts, absent, strict=True)])
