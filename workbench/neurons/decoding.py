"""Decoding of a model, once, then browsing and search from the store."""

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
from analysis.neurons import decoding, word_search
from analysis.neurons.decoding import Decoding, NeuronNorm, parameters_read, read_block_vectors
from analysis.neurons.word_search import By, Sign, WordScores, score_word
from analysis.opening.fetching import fetching
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import TokenKind, find_word_tokens
from analysis.pulse import Pulse
from store import DatabaseReadOnly, RunSpec, Store, StoreFull, read_arrays
from workbench.kinds import Kind
from workbench.runs import (
    DoneUnit,
    FinishedRun,
    Progress,
    UnitResult,
    compute_in_turn,
    run_missing_units,
    run_spec,
    time_units,
)

TOP_K = 10
LONGEST_PAGE = 500
"""Largest number of rows sent to a browser; filtering, sorting and paging happen here."""

_FIELDS = tuple(Decoding.__dataclass_fields__)
_SCORES = tuple(WordScores.__dataclass_fields__)
FloatArray = np.ndarray[Any, np.dtype[np.float32]]
IntArray = np.ndarray[Any, np.dtype[np.int32]]


@dataclass(frozen=True)
class DecodedModel:
    """A whole model's decoding at one site, all blocks concatenated (n neurons, k tokens).

    Arrays as in analysis.neurons.decoding.Decoding; first[b] is the start of block b, layer (n,) each
    neuron's layer.
    """

    run: str
    blocks: tuple[Block, ...]
    first: IntArray
    layer: IntArray
    top_ids: IntArray
    top_logits: FloatArray
    bottom_ids: IntArray
    bottom_logits: FloatArray
    log_z: FloatArray
    mean: FloatArray
    deviation: FloatArray
    entropy: FloatArray
    weight_norm: FloatArray

    def __len__(self) -> int:
        return len(self.log_z)

    def address(self, index: int) -> NeuronAddress:
        """The address of the index-th neuron."""
        block = int(np.searchsorted(self.first, index, side="right")) - 1
        return NeuronAddress(self.blocks[block].address, int(index - self.first[block]))

    def index(self, address: NeuronAddress) -> int:
        """The index of a neuron in the arrays."""
        block = next(b for b, found in enumerate(self.blocks) if found.address == address.block)
        return int(self.first[block]) + address.neuron

    def probability(self, rows: Any = slice(None), *, bottom: bool = False) -> FloatArray:
        """(…, k) p of the top (bottom) tokens of some neurons."""
        logits = self.bottom_logits if bottom else self.top_logits
        return np.asarray(np.exp(logits[rows] - self.log_z[rows, None]))


def decode_spec(loaded: LoadedModel, site: Site, norm: NeuronNorm, top_k: int) -> RunSpec:
    """The run that decodes every block of a model at one site; one unit per block that has the site."""
    if top_k < 1:
        raise HeadlampError(f"top-k {top_k}: choose at least 1")
    if site not in loaded.anatomy.sites:
        raise HeadlampError(f"site {site!r}: {loaded.ref.name} has {', '.join(loaded.anatomy.sites)}")
    blocks = blocks_with(loaded, site)
    parameters = {"site": site, "norm": norm, "top_k": top_k, "vocab": len(loaded.vocabulary)}
    return run_spec(loaded, "decode", decoding.METHOD_VERSION, parameters, units=len(blocks))


def blocks_with(loaded: LoadedModel, site: Site) -> tuple[Block, ...]:
    """The blocks that have a site. Raises HeadlampError where none has."""
    blocks = tuple(b for b in loaded.anatomy.blocks if site != "gate" or b.gated)
    if not blocks:
        raise HeadlampError(f"no block of {loaded.ref.name} has a gate; choose the site up or down")
    return blocks


def decode_model(
    loaded: LoadedModel,
    store: Store,
    *,
    site: Site = "up",
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


@lru_cache(maxsize=6)
def _read_decoded(store: Store, run: str, blocks: tuple[Block, ...]) -> DecodedModel:
    arrays = {name: np.concatenate(read_arrays(store, run, name)) for name in _FIELDS}
    sizes = np.array([block.d_ff for block in blocks])
    return DecodedModel(
        run=run,
        blocks=blocks,
        first=np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32),
        layer=np.repeat([block.address.layer for block in blocks], sizes).astype(np.int32),
        **arrays,
    )


@dataclass(frozen=True)
class SearchHit:
    """One neuron of a search. token: the decisive variant in the requested ranking; sign: + if positive
    values promote it. probability, z_score, cosine: merged over the variants as in WordScores.
    """

    address: NeuronAddress
    site: Site
    sign: Literal["+", "-"]
    token: str
    probability: float
    z_score: float
    cosine: float
    index: int


@dataclass(frozen=True)
class WordSearch:
    """A word's search over every neuron at a site. tokens: the merged variants; scores (n,) each.

    shown: the indices of the best neurons after the filters, best first.
    """

    word: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    site: Site
    scores: WordScores
    neurons: tuple[SearchHit, ...]


def find_word(
    loaded: LoadedModel,
    store: Store,
    word: str,
    *,
    site: Site = "up",
    norm: NeuronNorm = "none",
    by: By = "probability",
    sign: Sign | None = None,
    layers: tuple[int, int] | None = None,
    limit: int = 20,
    progress: Progress = lambda done, total: None,
) -> WordSearch:
    """The neurons that decode to a word, out of ALL neurons, best first. Decodes the model first if
    necessary.

    layers: first and last to show, both included. Raises UnknownWord, showing the word's tokens.
    """
    if limit < 1:
        raise HeadlampError(f"limit {limit}: choose at least 1")
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
    run = decode_model(loaded, store, site=site, norm=norm, progress=progress).run
    decoded = read_decoded(loaded, store, run.key, site)
    scores = _score_all(loaded, store, decoded, tokens, site, norm)
    best = word_search.rank(scores, by, sign, len(decoded)).numpy()
    if layers is not None:
        inside = (decoded.layer[best] >= layers[0]) & (decoded.layer[best] <= layers[1])
        best = best[inside]
    neurons = tuple(_make_hit(loaded, decoded, scores, site, by, int(i)) for i in best[:limit])
    texts = tuple(loaded.vocabulary.texts[token] for token in tokens)
    return WordSearch(word.strip(), tokens, texts, site, scores, neurons)


def _score_all(
    loaded: LoadedModel,
    store: Store,
    decoded: DecodedModel,
    tokens: tuple[int, ...],
    site: Site,
    norm: NeuronNorm,
) -> WordScores:
    """Every neuron's scores for a word, stored per word; one block's vectors are in memory at a time.

    If the store cannot take them, they are only returned.
    """
    parameters = {"decode": decoded.run, "token_ids": list(tokens), "site": site, "norm": norm}

    def unit(index: int) -> UnitResult:
        block, first = decoded.blocks[index], int(decoded.first[index])
        here = slice(first, first + block.d_ff)
        vectors = read_block_vectors(loaded.anatomy, block, loaded.parameters, site, norm)
        statistics = (torch.from_numpy(a[here]) for a in (decoded.log_z, decoded.mean, decoded.deviation))
        found = score_word(vectors, loaded.head, tokens, *statistics)
        return UnitResult(str(block.address), {name: getattr(found, name).numpy() for name in _SCORES})

    spec = run_spec(loaded, "find", word_search.METHOD_VERSION, parameters, units=len(decoded.blocks))
    try:
        columns = _read_scores(store, run_missing_units(store, spec, compute_in_turn(unit)).run.key)
    except (StoreFull, DatabaseReadOnly):
        parts = [unit(index).arrays for index in range(spec.units)]
        columns = tuple(np.concatenate([part[name] for part in parts]) for name in _SCORES)
    return WordScores(*(torch.from_numpy(column) for column in columns))


@lru_cache(maxsize=32)
def _read_scores(store: Store, run: str) -> tuple[Any, ...]:
    return tuple(np.concatenate(read_arrays(store, run, name)) for name in _SCORES)


def _make_hit(
    loaded: LoadedModel, decoded: DecodedModel, scores: WordScores, site: Site, by: By, index: int
) -> SearchHit:
    return SearchHit(
        address=decoded.address(index),
        site=site,
        sign="+" if int(scores.sign(by)[index]) > 0 else "-",
        token=loaded.vocabulary.texts[int(scores.token(by)[index])],
        probability=float(scores.probability[index]),
        z_score=float(scores.z_score[index]),
        cosine=float(scores.cosine[index]),
        index=index,
    )


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


@dataclass(frozen=True)
class TokenScore:
    """One token a neuron decodes to. token: its exact text."""

    token_id: int
    token: str
    logit: float
    probability: float


@dataclass(frozen=True)
class DecodedNeuron:
    """One row of the table."""

    address: NeuronAddress
    top: tuple[TokenScore, ...]
    bottom: tuple[TokenScore, ...]
    weight_norm: float
    log_z: float
    entropy: float


def read_rows(loaded: LoadedModel, decoded: DecodedModel, indices: Sequence[int]) -> Iterator[DecodedNeuron]:
    """The decoded neurons at some indices, one at a time, so that an export of millions streams."""
    for index in indices:
        yield DecodedNeuron(
            address=decoded.address(int(index)),
            top=_tokens(loaded, decoded, int(index), bottom=False),
            bottom=_tokens(loaded, decoded, int(index), bottom=True),
            weight_norm=float(decoded.weight_norm[index]),
            log_z=float(decoded.log_z[index]),
            entropy=float(decoded.entropy[index]),
        )


def _tokens(
    loaded: LoadedModel, decoded: DecodedModel, index: int, *, bottom: bool
) -> tuple[TokenScore, ...]:
    ids, logits = (
        (decoded.bottom_ids, decoded.bottom_logits) if bottom else (decoded.top_ids, decoded.top_logits)
    )
    texts = loaded.vocabulary.texts
    p = np.exp(logits[index].astype(np.float64) - float(decoded.log_z[index]))
    return tuple(
        TokenScore(int(i), texts[int(i)], float(z), float(q))
        for i, z, q in zip(ids[index], logits[index], p, strict=True)
    )
