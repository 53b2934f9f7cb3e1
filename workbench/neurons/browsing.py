"""Read-only views for the pages: decoding state, layer maps, a neuron's neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Anatomy, Site
from analysis.errors import UnknownWord
from analysis.intervening.clamps import ClampSite
from analysis.neurons.decoding import NeuronNorm, read_block_vectors
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from store import Run, Store, find_run, list_runs
from workbench.neurons.decoding import blocks_with, find_spec
from workbench.neurons.firing import FiringText

Array = np.ndarray[Any, Any]


def list_decoded_runs(loaded: LoadedModel, store: Store) -> list[Run]:
    """The stored decodings of this model, complete or partial, newest first."""
    return list_runs(store, kind="decode", model_fingerprint=loaded.fingerprint)


@dataclass(frozen=True)
class DecodingState:
    """How far a model is decoded at one site: blocks done, of how many, and the neurons in them."""

    blocks_done: int
    blocks: int
    neurons: int

    @property
    def finished(self) -> bool:
        """Whether every block is stored."""
        return self.blocks_done == self.blocks


def read_decoding_state(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm) -> DecodingState:
    """Read how far the model is decoded at a site; computes nothing."""
    blocks = blocks_with(loaded, site)
    run = find_run(store, find_spec(loaded, store, site, norm).key)
    return DecodingState(0 if run is None else run.stored_units, len(blocks), sum(b.d_ff for b in blocks))


def find_single_token_words(loaded: LoadedModel, candidates: Iterable[str], limit: int) -> list[str]:
    """The first few candidates that are single tokens of the model's vocabulary."""
    found: list[str] = []
    for word in candidates:
        try:
            find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
        except UnknownWord:
            continue
        found.append(word)
        if len(found) == limit:
            break
    return found


def list_block_kinds(anatomy: Anatomy) -> tuple[Array, Array, Array]:
    """(layer, kind, width), each (blocks,): the data of an anatomy figure."""
    addresses = [block.address for block in anatomy.blocks]
    kinds = ["dense" if a.expert is None else "shared" if a.shared else "routed" for a in addresses]
    widths = [block.d_ff for block in anatomy.blocks]
    return np.array([a.layer for a in addresses]), np.array(kinds), np.array(widths)


@dataclass(frozen=True)
class RankedLayers:
    """The neurons of every layer by a score, best first, in at most c columns.

    layers (l,); rank (c,): the first rank a column stands for, from 1; index, value (l, c): the strongest
    neuron among those ranks and its score; −1 and NaN where a layer has fewer neurons.
    """

    layers: Array
    rank: Array
    index: Array
    value: Array


def rank_layers(layer: Array, value: Array, columns: int) -> RankedLayers:
    """Rank the neurons of each layer; layer, value (n,). Of ranks sharing a column: the largest |value|."""
    layers = np.unique(layer)
    members = [np.flatnonzero(layer == one) for one in layers]
    widest = max(len(m) for m in members)
    per_column = -(-widest // columns)
    width = -(-widest // per_column)
    index = np.full((len(layers), width), -1)
    for row, member in enumerate(members):
        order = member[np.argsort(-value[member], kind="stable")]
        padded = np.full(width * per_column, -1)
        padded[: len(order)] = order
        cells = padded.reshape(width, per_column)
        strength = np.where(cells >= 0, np.abs(value[cells]), -1.0)
        index[row] = cells[np.arange(width), strength.argmax(1)]
    shown = np.where(index >= 0, value[index], np.nan)
    return RankedLayers(layers, np.arange(width) * per_column + 1, index, shown)


def find_nearest_neurons(
    loaded: LoadedModel,
    address: NeuronAddress,
    *,
    site: Site = "up",
    norm: NeuronNorm = "none",
    limit: int = 10,
) -> list[tuple[NeuronAddress, float]]:
    """The neurons whose vectors at a site have the largest |cosine| with this one's, with the cosines.

    Exact over all neurons; one block's vectors are in memory at a time.
    """
    home = loaded.anatomy.block(address)
    with torch.inference_mode():
        vectors = read_block_vectors(loaded.anatomy, home, loaded.parameters, site, norm)
        target = normalize(vectors[address.neuron], dim=0)
        best: list[tuple[NeuronAddress, float]] = []
        for block in blocks_with(loaded, site):
            vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
            cosines = normalize(vectors, dim=1) @ target.to(vectors.device)
            for i in cosines.abs().topk(min(limit + 1, block.d_ff)).indices.tolist():
                best.append((NeuronAddress(block.address, i), float(cosines[i])))
    others = [pair for pair in best if pair[0] != address]
    return sorted(others, key=lambda pair: -abs(pair[1]))[:limit]


def find_neighbours(
    anatomy: Anatomy, address: NeuronAddress
) -> tuple[NeuronAddress | None, NeuronAddress | None]:
    """The previous and next neuron over all blocks in order; None at the ends."""
    block = anatomy.block(address)
    place = anatomy.index(block.address)
    before: NeuronAddress | None = None
    after: NeuronAddress | None = None
    if address.neuron > 0:
        before = NeuronAddress(block.address, address.neuron - 1)
    elif place > 0:
        previous = anatomy.blocks[place - 1]
        before = NeuronAddress(previous.address, previous.d_ff - 1)
    if address.neuron + 1 < block.d_ff:
        after = NeuronAddress(block.address, address.neuron + 1)
    elif place + 1 < len(anatomy.blocks):
        after = NeuronAddress(anatomy.blocks[place + 1].address, 0)
    return before, after


@dataclass(frozen=True)
class Excerpt:
    """A passage around a neuron's peak. first: its first token's position; where it was cut."""

    tokens: tuple[str, ...]
    values: Array
    first: int
    cut_before: bool
    cut_after: bool


def cut_excerpt(firing: FiringText, site: ClampSite, *, before: int = 40, after: int = 24) -> Excerpt:
    """The tokens around the largest |value| at a site, excluding position 0."""
    values = firing.values[site]
    strength = np.nan_to_num(np.abs(values), nan=-1.0)
    peak = 1 + int(strength[1:].argmax()) if len(values) > 1 else 0
    first, last = max(peak - before, 0), min(peak + after + 1, len(values))
    return Excerpt(firing.tokens[first:last], values[first:last], first, first > 0, last < len(values))
