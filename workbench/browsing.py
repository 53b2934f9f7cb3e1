"""Read-only views for the pages: what is mapped, maps of layers, a neuron's neighbours, tables as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import huggingface_hub
import numpy as np
import torch
from torch.nn.functional import normalize

from analysis.addresses import NeuronAddress
from analysis.anatomy import Anatomy, Site
from analysis.clamps import ClampSite
from analysis.decoding import NeuronNorm, block_vectors
from analysis.errors import UnknownWord
from analysis.models import LoadedModel, ModelRef
from analysis.vocabulary import word_tokens
from store import Run, Store, find_run, list_runs
from store.export import FORMULA_STARTS
from workbench.models import folder_of, model_choices
from workbench.neurons import TOP_K, DecodedNeuron, blocks_with, decode_spec
from workbench.profiles import FiringText

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
Array = np.ndarray[Any, Any]


def needs_fetching(ref: ModelRef, store: Store) -> bool:
    """Whether opening it would download it: a Hub id, neither opened here before nor in the Hub's cache."""
    if not _HUB_ID.fullmatch(ref.name) or folder_of(ref.name) is not None:
        return False
    if any(choice.name == ref.name for choice in model_choices(store)):
        return False
    try:
        cached = huggingface_hub.try_to_load_from_cache(ref.name, "config.json", revision=ref.revision)
    except ValueError:
        return False  # a name the Hub would refuse: opening it says so
    return not isinstance(cached, str)


def decoded_runs(loaded: LoadedModel, store: Store) -> list[Run]:
    """The decodings of this model that are stored, whole or in part, newest first."""
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


def decoding_state(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm) -> DecodingState:
    """How far the model is decoded at a site; computes nothing."""
    blocks = blocks_with(loaded, site)
    run = find_run(store, decode_spec(loaded, site, norm, TOP_K).key)
    return DecodingState(0 if run is None else run.stored_units, len(blocks), sum(b.d_ff for b in blocks))


def single_token_words(loaded: LoadedModel, candidates: Iterable[str], limit: int) -> list[str]:
    """The first few candidates that are one token of the model's vocabulary."""
    found: list[str] = []
    for word in candidates:
        try:
            word_tokens(loaded.vocabulary, loaded.tokenizer, word)
        except UnknownWord:
            continue
        found.append(word)
        if len(found) == limit:
            break
    return found


def block_kinds(anatomy: Anatomy) -> tuple[Array, Array, Array]:
    """(layer, kind, width), each (blocks,): what a picture of the anatomy shows."""
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


def ranked_layers(layer: Array, value: Array, columns: int) -> RankedLayers:
    """Rank the neurons of each layer; layer, value (n,). Ranks that share a column: the largest |value|."""
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


def nearest_neurons(
    loaded: LoadedModel,
    address: NeuronAddress,
    *,
    site: Site = "up",
    norm: NeuronNorm = "none",
    limit: int = 10,
) -> list[tuple[NeuronAddress, float]]:
    """The neurons whose vectors at a site point most along this one's or against it, with their cosines.

    Exact over all neurons; one block's vectors are in memory at a time.
    """
    home = loaded.anatomy.block(address)
    with torch.inference_mode():
        vectors = block_vectors(loaded.anatomy, home, loaded.parameters, site, norm)
        target = normalize(vectors[address.neuron], dim=0)
        best: list[tuple[NeuronAddress, float]] = []
        for block in blocks_with(loaded, site):
            cosines = (
                normalize(block_vectors(loaded.anatomy, block, loaded.parameters, site, norm), dim=1) @ target
            )
            for i in cosines.abs().topk(min(limit + 1, block.d_ff)).indices.tolist():
                best.append((NeuronAddress(block.address, i), float(cosines[i])))
    others = [pair for pair in best if pair[0] != address]
    return sorted(others, key=lambda pair: -abs(pair[1]))[:limit]


def neighbours(anatomy: Anatomy, address: NeuronAddress) -> tuple[NeuronAddress | None, NeuronAddress | None]:
    """The neurons before and after one, through all blocks in order; None at the ends."""
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


def neurons_csv(neurons: Iterable[DecodedNeuron], top_k: int = TOP_K) -> bytes:
    """Decoded neurons as CSV, UTF-8: address, label, scores, then the top and bottom tokens with their p."""
    header = ["address", "weight_norm", "log_z", "entropy_nats"]
    header += [
        f"{end}{i}_{what}"
        for end in ("top", "bottom")
        for i in range(1, top_k + 1)
        for what in ("token", "p")
    ]
    return table_csv(header, (_csv_row(neuron) for neuron in neurons))


def _csv_row(neuron: DecodedNeuron) -> list[object]:
    tokens = [cell for score in (*neuron.top, *neuron.bottom) for cell in (score.token, score.probability)]
    return [str(neuron.address), neuron.weight_norm, neuron.log_z, neuron.entropy, *tokens]


def table_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Any table as CSV, UTF-8; texts a spreadsheet would run as a formula begin with an apostrophe."""
    lines = io.StringIO()
    writer = csv.writer(lines, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return lines.getvalue().encode("utf-8")


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a text around a neuron's peak. first: its first token's position; where it was cut."""

    tokens: tuple[str, ...]
    values: Array
    first: int
    cut_before: bool
    cut_after: bool


def excerpt(firing: FiringText, site: ClampSite, *, before: int = 40, after: int = 24) -> Excerpt:
    """The tokens around the largest |value| at a site, position 0 left out of the choice."""
    values = firing.values[site]
    strength = np.nan_to_num(np.abs(values), nan=-1.0)
    peak = 1 + int(strength[1:].argmax()) if len(values) > 1 else 0
    first, last = max(peak - before, 0), min(peak + after + 1, len(values))
    return Excerpt(firing.tokens[first:last], values[first:last], first, first > 0, last < len(values))
