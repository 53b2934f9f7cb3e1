"""The neurons of a word, as rows and as a map; nothing has to be decoded before."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.figures.hits import Hits, hits_figure, spread_layers
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest, open_clicked
from pages.explore.neurons.decoding import explain_decoding, offer_map
from pages.explore.neurons.hits import find_hits, search_word
from pages.explore.neurons.lists import PROBABILITY, show_neuron_table
from pages.shared.decodings import join_top_tokens
from pages.shared.layout import CHART, show_caption, show_download, show_empty
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.files import table_csv
from workbench.neurons.rows import DecodedNeuron, decode_rows
from workbench.neurons.searching import SearchHit, WordSearch

_TOKENS = "_found_tokens"


def show_search_results(loaded: LoadedModel, asked: BrowseRequest) -> None:
    """The neurons that decode to a word, best first. Raises UnknownWord with the word's tokens."""
    found = find_hits(loaded, asked)
    variants = ", ".join(escape_text(show_token(token)) for token in found.tokens)
    st.subheader(f"Neurons of “{escape_text(found.word)}”", anchor=False)
    st.markdown(f"Variants merged: {variants}")
    if not found.neurons:
        show_empty("No neuron has this sign in these layers: widen the layers, or choose another sign.")
        return
    addresses = [str(neuron.address) for neuron in found.neurons]
    show_neuron_table(_table(loaded, found, asked), addresses, _COLUMNS, key="found")
    show_caption(
        f"The {len(addresses):,} best of {len(found.places):,} neurons by {asked.by}. Token: the decisive "
        f"variant. {_sign(asked)}"
    )
    with st.container(horizontal=True):
        show_download("All as CSV", lambda: _search_csv(loaded, asked), "neurons.csv", key="found_csv")
        explain_decoding()
    if found.scores.log_z is None:
        offer_map(loaded, asked)
    _show_dots(found, asked)


def _show_dots(found: WordSearch, asked: BrowseRequest) -> None:
    """The hits by layer, each a dot that opens its neuron."""
    score = found.scores.by(asked.by).numpy()
    hits = Hits(
        layer=[hit.address.block.layer for hit in found.neurons],
        score=[float(score[hit.index]) for hit in found.neurons],
        name=[str(hit.address) for hit in found.neurons],
        token=[show_token(hit.token) for hit in found.neurons],
        measure=_MEASURES[asked.by],
    )
    st.subheader("By layer", anchor=False)
    st.plotly_chart(
        hits_figure(hits, spread_layers(found.places.layer, score)),
        key="dots",
        on_select=lambda: open_clicked("dots"),
        selection_mode="points",
        alt=f"Neurons of {found.word} by layer and {_MEASURES[asked.by]}",
        config=CHART,
    )
    show_caption(
        "Each dot: a neuron of the table; the best of a layer by name. Grey: from the smallest to the "
        f"largest {_MEASURES[asked.by]} of all neurons of the layer. Click a dot to open its neuron."
    )


_MEASURES = {"probability": "probability", "z": "z-score", "cosine": "cosine"}
_COLUMNS = {
    "p": PROBABILITY,
    "× uniform": st.column_config.NumberColumn(format="%.3g", help="p as a multiple of 1 / vocabulary"),
    "z-score": st.column_config.NumberColumn(format="%+.2f", help="Standard deviations over the vocabulary"),
    "cosine": st.column_config.NumberColumn(format="%+.3f", help="Of the neuron's vector and the word's row"),
    "tokens": st.column_config.TextColumn(
        width="large", help="Of sign +: those it promotes most. Of sign −: those it suppresses most"
    ),
}


def _table(loaded: LoadedModel, found: WordSearch, asked: BrowseRequest) -> dict[str, Any]:
    """Columns of the hits; p and × uniform once the model is mapped at this site and norm."""
    ends = zip(found.neurons, _decode(loaded, found, asked), strict=True)
    table: dict[str, Any] = {
        "sign": ["+" if n.sign == "+" else "−" for n in found.neurons],
        "token": [show_token(n.token) for n in found.neurons],
        "tokens": [join_top_tokens(row, "top" if hit.sign == "+" else "bottom") for hit, row in ends],
        "z-score": [n.z_score for n in found.neurons],
        "cosine": [n.cosine for n in found.neurons],
    }
    if found.scores.log_z is not None:
        chances = [n.probability or 0.0 for n in found.neurons]
        table |= {"p": chances, "× uniform": [p * loaded.vocabulary.tokens for p in chances]}
    return table


def _decode(loaded: LoadedModel, found: WordSearch, asked: BrowseRequest) -> list[DecodedNeuron]:
    """The tokens of the hits; the last are kept in the session, so widget changes compute nothing."""
    addresses = [hit.address for hit in found.neurons]
    key = (loaded.fingerprint, loaded.ref, asked.site, asked.norm, tuple(addresses))
    kept, rows = st.session_state.get(_TOKENS, (None, None))
    if rows is None or kept != key:
        rows = decode_rows(loaded, get_store(), addresses, site=asked.site, norm=asked.norm)
        st.session_state[_TOKENS] = (key, rows)
    return list(rows)


def _sign(asked: BrowseRequest) -> str:
    """The meaning of the table's signs at the chosen site and ranking."""
    against = "cosine" if asked.by == "cosine" else "z-score"
    if asked.site == "down":
        return f"Sign −: its {against} is negative, so positive values of the neuron suppress the word."
    return f"Sign −: its {against} is negative; the site down shows what the neuron writes."


def _search_csv(loaded: LoadedModel, asked: BrowseRequest) -> bytes:
    header = ["address", "site", "sign", "token", "probability", "z_score", "cosine"]
    return table_csv(header, map(_csv_row, search_word(loaded, asked, loaded.anatomy.neurons).neurons))


def _csv_row(hit: SearchHit) -> list[Any]:
    """An empty cell where the probability is not known."""
    chance = "" if hit.probability is None else hit.probability
    return [str(hit.address), hit.site, hit.sign, hit.token, chance, hit.z_score, hit.cosine]
