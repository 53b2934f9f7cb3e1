"""Controls of the Neurons page; each widget's key is its name in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal, get_args

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.anatomy.anatomy import Site
from analysis.neurons.decoding import NORMS, NeuronNorm
from analysis.neurons.word_search import RANKINGS, SIGNS, By, Sign
from analysis.opening.models import LoadedModel
from analysis.opening.vocabulary import TokenKind
from pages.shared import state
from pages.shared.decodings import NORM_HELP, SITE_HELP
from pages.shared.layout import read_selection
from pages.shared.tokens import escape_text
from workbench.neurons.decoding import LONGEST_PAGE
from workbench.neurons.filtering import NeuronFilter

End = Literal["top", "bottom"]
Order = Literal["probability", "entropy", "weight_norm", "address"]
TOKEN_KINDS: tuple[TokenKind, ...] = get_args(TokenKind)
ENDS: tuple[End, ...] = get_args(End)
ORDERS: tuple[Order, ...] = get_args(Order)
PAGE_LENGTHS = (50, 20, 100, LONGEST_PAGE)
QUICK = 200_000
"""Largest number of neurons that are searched while a word is being typed: a fraction of a second."""
OFFERED = 8
_OFFERED = "_offered_words"


@dataclass(frozen=True)
class BrowseRequest:
    """One view of the page. sign: None if the ranking has none. length: rows of the table."""

    word: str
    neuron: str
    site: Site
    norm: NeuronNorm
    by: By
    sign: Sign | None
    length: int
    wanted: NeuronFilter


def choose_neurons(loaded: LoadedModel) -> BrowseRequest:
    """The search box, the address box and the filters; all are cheap, so they apply at once."""
    first, second, third = st.columns([4, 2, 2])
    word = first.text_input(
        "Find the neurons of a word",
        key=state.WORD,
        bind="query-params",
        placeholder="a word that is one token, such as dog",
        icon=":material/search:",
        on_change=close_neuron,
        live=loaded.streamed is None and loaded.anatomy.neurons <= QUICK,
    ).strip()
    neuron = second.text_input(
        "Open a neuron", key=state.NEURON, bind="query-params", placeholder="L2.N47", help=_ADDRESS_HELP
    ).strip()
    sites = loaded.anatomy.sites
    site = third.selectbox(
        "Site", sites, index=sites.index("down"), key=state.SITE, bind="query-params", help=SITE_HELP
    )
    if not neuron:
        _offer_words(loaded, word)
    with _frame(neuron, word):
        columns = st.columns(4)
        by, sign = _ranking(columns) if word else ("z", None)
        labels = NeuronFilter() if word else _labels(columns)
        place, second, third = st.columns([2, 1, 1])
        layers = _layers(place, loaded.anatomy.layers)
        norm = second.selectbox("Norm", NORMS, key=state.NORM, bind="query-params", help=NORM_HELP)
        length = third.selectbox("Rows", PAGE_LENGTHS, key=state.LIMIT, bind="query-params")
    return BrowseRequest(word, neuron, site, norm, by, sign, length, replace(labels, layers=layers))


_ADDRESS_HELP = "L2.N47 in a dense block, L1.E68.N12 in a routed expert, L8.S0.N7 in a shared one"


def _offer_words(loaded: LoadedModel, typed: str) -> None:
    """Words of the vocabulary that begin with what is typed, to choose."""
    words = loaded.vocabulary.complete(typed, OFFERED)
    if words:
        st.pills(
            "Words of the vocabulary",
            words,
            format_func=escape_text,
            key=_OFFERED,
            on_change=_take_word,
            label_visibility="collapsed",
        )


def _take_word() -> None:
    st.session_state[state.WORD] = st.session_state[_OFFERED]


def open_neuron(address: str) -> None:
    """Show one neuron instead of the list; for callbacks, which run before the widgets do."""
    st.session_state[state.NEURON] = address


def open_clicked(key: str) -> None:
    """Open the neuron of the point that was clicked in a chart; its name is the point's first own datum."""
    name = read_selection(st.session_state[key]).datum
    if name:
        open_neuron(str(name))


def close_neuron() -> None:
    """Show the list again."""
    st.session_state[state.NEURON] = ""


def _frame(neuron: str, word: str) -> AbstractContextManager[object]:
    """Filters are expanded above the list of all neurons, and collapsed above an answer."""
    label = "Ranking and filters" if word else "Filters"
    return st.expander(label, expanded=not (neuron or word), icon=":material/filter_list:")


def _ranking(columns: Sequence[DeltaGenerator]) -> tuple[By, Sign | None]:
    by = columns[0].selectbox("Rank by", RANKINGS, key=state.BY, bind="query-params", help=_BY_HELP)
    sign = columns[1].selectbox(
        "Sign", SIGNS, key=state.SIGN, bind="query-params", disabled=by == "probability", help=_SIGN_HELP
    )
    return by, None if by == "probability" else sign


_BY_HELP = (
    "z: (z − mean) / deviation over the vocabulary. cosine: of the neuron's vector and the word's row of the "
    "head. probability: the word's share of the softmax, summed over its variants; all neurons are decoded "
    "first."
)
_SIGN_HELP = (
    "A neuron of −word suppresses the word; at negative values it promotes it. A probability has no "
    "negative side."
)


def _labels(columns: Sequence[DeltaGenerator]) -> NeuronFilter:
    end = columns[0].selectbox("Label", ENDS, key=state.END, bind="query-params", help=_END_HELP)
    order = columns[1].selectbox("Order", ORDERS, key=state.ORDER, bind="query-params", help=_ORDER_HELP)
    minimum = columns[2].slider(
        "Smallest probability",
        0.0,
        1.0,
        0.0,
        0.01,
        key=state.MINIMUM,
        bind="query-params",
        help=_MINIMUM_HELP,
    )
    kinds = columns[3].multiselect(
        "Kind of token", TOKEN_KINDS, key=state.KINDS, bind="query-params", placeholder="all kinds"
    )
    return NeuronFilter(minimum=minimum, kinds=frozenset(kinds), end=end, order=order)


_END_HELP = "top: the token a neuron promotes most. bottom: the one it suppresses most."
_ORDER_HELP = (
    "probability: of the label, largest first. entropy: of the whole softmax, smallest first. weight_norm: "
    "length of the vector, largest first. address: by layer and number."
)
_MINIMUM_HELP = "Of the label's probability"


def _layers(place: DeltaGenerator, layers: int) -> tuple[int, int] | None:
    """First and last layer to show; None, all of them, in a model of one layer."""
    if layers < 2:
        return None
    ends = (0, layers - 1)
    chosen = place.slider("Layers", *ends, ends, key=state.LAYERS, bind="query-params")
    return None if chosen == ends else (int(chosen[0]), int(chosen[1]))
