"""The reference text as a neuron and those beside it read it, kept in the session."""

from __future__ import annotations

import streamlit as st

from analysis.anatomy.addresses import NeuronAddress
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest
from pages.explore.neurons.hits import list_hits
from pages.shared.layout import make_progress_bar
from workbench.neurons.firing import ReferenceReading

TOGETHER = 100
"""Neurons whose activations are read together: it takes no longer than one."""

_READING = "_reference_reading"


def read_reference(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> ReferenceReading:
    """The activations of this neuron and of those that *Next* leads to, read together and kept.

    The page can be left at every window; what is read by then stays.
    """
    kept, reading = st.session_state.get(_READING, (None, None))
    if kept != (loaded.ref, loaded.fingerprint) or address not in reading.firings:
        reading = ReferenceReading(loaded, _list_around(loaded, address, asked))
        st.session_state[_READING] = ((loaded.ref, loaded.fingerprint), reading)
    show = make_progress_bar("Reading the reference text", "passages")
    while not reading.finished:
        show(reading.done, len(reading.windows))
        reading.read_next(loaded)
    show(len(reading.windows), len(reading.windows))
    return reading


def _list_around(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> list[NeuronAddress]:
    """The hits that a neuron is one of, the nearest in the list; else its neighbours in its block."""
    hits = list_hits(loaded, asked)
    if address in hits:
        first = max(0, hits.index(address) - TOGETHER // 2)
        return hits[first : first + TOGETHER]
    first = max(0, address.neuron - TOGETHER // 2)
    last = min(first + TOGETHER, loaded.anatomy.block(address).d_ff)
    return [NeuronAddress(address.block, number) for number in range(first, last)]
