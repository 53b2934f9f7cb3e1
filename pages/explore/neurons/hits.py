"""The hits of a searched word: kept in the session, for the list, and for the way from hit to hit."""

from __future__ import annotations

from contextlib import nullcontext

import streamlit as st

from analysis.anatomy.addresses import NeuronAddress
from analysis.errors import UnknownWord
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest
from pages.shared.resources import get_store
from workbench.neurons.decoding import find_decoded
from workbench.neurons.searching import WordSearch, find_word, needs_map

_FOUND = "_found_word"


def find_hits(loaded: LoadedModel, asked: BrowseRequest) -> WordSearch:
    """The neurons that decode to the word, best first; the last search is kept. Raises UnknownWord."""
    mapped = find_decoded(loaded, get_store(), asked.site, asked.norm) is not None
    wanted = (asked.word, asked.site, asked.norm, asked.by, asked.sign, asked.wanted.layers, asked.length)
    key = (loaded.ref, loaded.fingerprint, mapped, wanted)
    kept, found = st.session_state.get(_FOUND, (None, None))
    if found is None or kept != key:
        found = search_word(loaded, asked, asked.length)
        st.session_state[_FOUND] = (key, found)
    return found


def search_word(loaded: LoadedModel, asked: BrowseRequest, limit: int) -> WordSearch:
    """The same, the best `limit` of them, searched now."""
    with nullcontext() if loaded.streamed is None else st.spinner("Reading every vector from disk …"):
        return find_word(
            loaded,
            get_store(),
            asked.word,
            site=asked.site,
            norm=asked.norm,
            by=asked.by,
            sign=asked.sign,
            layers=asked.wanted.layers,
            limit=limit,
        )


def list_hits(loaded: LoadedModel, asked: BrowseRequest) -> list[NeuronAddress]:
    """The addresses of the hits; none without a word that is a token, or a map that the ranking needs."""
    if not asked.word or loaded.at_hub is not None:
        return []
    if needs_map(loaded, get_store(), asked.site, asked.norm, asked.by):
        return []
    try:
        return [hit.address for hit in find_hits(loaded, asked).neurons]
    except UnknownWord:
        return []
