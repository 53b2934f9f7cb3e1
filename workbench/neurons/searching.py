"""Search for the neurons of a word: over all neurons, before and without any decoding of the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.errors import HeadlampError
from analysis.neurons import word_search
from analysis.neurons.decoding import NeuronNorm, read_block_vectors
from analysis.neurons.word_search import By, Sign, WordScores, check_ranking, score_word
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import find_word_tokens
from store import DatabaseReadOnly, RunSpec, Store, StoreFull, find_run, read_arrays
from workbench.neurons.decoding import (
    DecodedModel,
    NeuronIndex,
    blocks_with,
    decode_model,
    find_decoded,
    index_neurons,
    read_decoded,
)
from workbench.runs import Progress, UnitResult, compute_in_turn, run_missing_units, run_spec

_SCORES = ("logits", "z_scores", "cosines")


@dataclass(frozen=True)
class SearchHit:
    """One neuron of a search. token: the form of the word that decides the ranking; z_score, cosine: that
    form's; sign: + if positive values promote it. probability: summed over the forms, in [0, 1]; None where
    the model is not mapped at this site and norm.
    """

    address: NeuronAddress
    site: Site
    sign: Literal["+", "-"]
    token: str
    probability: float | None
    z_score: float
    cosine: float
    index: int


@dataclass(frozen=True)
class WordSearch:
    """A word's search over every neuron at a site. tokens: the merged forms; scores: of all n neurons, in
    the order of `places`.

    neurons: the best after the filters, best first.
    """

    word: str
    token_ids: tuple[int, ...]
    tokens: tuple[str, ...]
    site: Site
    places: NeuronIndex
    scores: WordScores
    neurons: tuple[SearchHit, ...]


def find_word(
    loaded: LoadedModel,
    store: Store,
    word: str,
    *,
    site: Site = "down",
    norm: NeuronNorm = "none",
    by: By = "z",
    sign: Sign | None = None,
    layers: tuple[int, int] | None = None,
    limit: int = 20,
    progress: Progress = lambda done, total: None,
) -> WordSearch:
    """The neurons that decode to a word, out of ALL neurons, best first, both signs unless one is asked for.

    z and cosine need one pass over the vectors; `probability` needs the model's map, and decodes the model
    first where none is stored. layers: first and last to show, both included. Raises UnknownWord, showing
    the word's tokens.
    """
    if limit < 1:
        raise HeadlampError(f"limit {limit}: choose at least 1")
    check_ranking(by, sign)
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
    places = index_neurons(blocks_with(loaded, site))
    decoded = _find_map(loaded, store, site, norm, by, progress)
    scores = _score_all(loaded, store, tokens, site, norm, progress)
    if decoded is not None:
        scores = replace(scores, log_z=torch.from_numpy(decoded.log_z))
    best = word_search.rank(scores, by, sign, len(places)).numpy()
    if layers is not None:
        inside = (places.layer[best] >= layers[0]) & (places.layer[best] <= layers[1])
        best = best[inside]
    hits = _make_hits(loaded, places, scores, site, by, best[:limit])
    texts = tuple(loaded.vocabulary.texts[token] for token in tokens)
    return WordSearch(word.strip(), tokens, texts, site, places, scores, hits)


def needs_map(loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm, by: By) -> bool:
    """Whether a search must first decode the model, which takes long where it is large."""
    return by == "probability" and find_decoded(loaded, store, site, norm) is None


def is_searched(loaded: LoadedModel, store: Store, word: str, site: Site, norm: NeuronNorm) -> bool:
    """Whether this word's scores are stored, so that `find_word` reads no vector. Raises UnknownWord."""
    tokens = find_word_tokens(loaded.vocabulary, loaded.tokenizer, word)
    run = find_run(store, search_spec(loaded, tokens, site, norm).key)
    return run is not None and run.finished


def search_spec(loaded: LoadedModel, tokens: tuple[int, ...], site: Site, norm: NeuronNorm) -> RunSpec:
    """The run that scores every neuron at a site for these tokens; one unit per block that has the site."""
    parameters = {
        "token_ids": list(tokens),
        "site": site,
        "norm": norm,
        "vocab": len(loaded.vocabulary),
    }
    units = len(blocks_with(loaded, site))
    return run_spec(loaded, "find", word_search.METHOD_VERSION, parameters, units=units)


def _find_map(
    loaded: LoadedModel, store: Store, site: Site, norm: NeuronNorm, by: By, progress: Progress
) -> DecodedModel | None:
    """The stored map, if any; for a ranking by probability it is made where none is stored."""
    if not needs_map(loaded, store, site, norm, by):
        return find_decoded(loaded, store, site, norm)
    run = decode_model(loaded, store, site=site, norm=norm, progress=progress).run
    return read_decoded(loaded, store, run.key, site)


def _score_all(
    loaded: LoadedModel,
    store: Store,
    tokens: tuple[int, ...],
    site: Site,
    norm: NeuronNorm,
    progress: Progress,
) -> WordScores:
    """Every neuron's scores for a word, stored per word; one block's vectors are in memory at a time.

    If the store cannot take them, they are only returned.
    """
    blocks = blocks_with(loaded, site)

    def unit(index: int) -> UnitResult:
        vectors = read_block_vectors(loaded.anatomy, blocks[index], loaded.parameters, site, norm)
        with torch.inference_mode():
            found = score_word(vectors, loaded.head, tokens, (blocks[index].address, site, norm))
        return UnitResult(
            str(blocks[index].address), {name: getattr(found, name).numpy() for name in _SCORES}
        )

    spec = search_spec(loaded, tokens, site, norm)
    try:
        columns = _read_scores(store, run_missing_units(store, spec, compute_in_turn(unit), progress).run.key)
    except (StoreFull, DatabaseReadOnly):
        parts = [unit(index).arrays for index in range(spec.units)]
        columns = tuple(np.concatenate([part[name] for part in parts]) for name in _SCORES)
    logits, z_scores, cosines = (torch.from_numpy(column) for column in columns)
    return WordScores(logits, z_scores, cosines, torch.tensor(tokens, dtype=torch.int32))


@lru_cache(maxsize=32)
def _read_scores(store: Store, run: str) -> tuple[Any, ...]:
    return tuple(np.concatenate(read_arrays(store, run, name)) for name in _SCORES)


def _make_hits(
    loaded: LoadedModel, places: NeuronIndex, scores: WordScores, site: Site, by: By, best: Any
) -> tuple[SearchHit, ...]:
    texts, probability = loaded.vocabulary.texts, scores.probability
    signs, tokens, z_scores, cosines = (
        scores.sign(by),
        scores.token(by),
        scores.z_score(by),
        scores.cosine(by),
    )
    return tuple(
        SearchHit(
            address=places.address(index),
            site=site,
            sign="+" if int(signs[index]) > 0 else "-",
            token=texts[int(tokens[index])],
            probability=None if probability is None else float(probability[index]),
            z_score=float(z_scores[index]),
            cosine=float(cosines[index]),
            index=index,
        )
        for index in best.tolist()
    )
