"""The table of all neurons, and what every table of neurons shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest, open_neuron
from pages.explore.neurons.decoding import explain_decoding
from pages.explore.neurons.layer_map import show_neuron_map
from pages.shared import state
from pages.shared.decodings import join_top_tokens
from pages.shared.layout import (
    read_pressed_row,
    read_selection,
    show_caption,
    show_download,
    show_empty,
)
from pages.shared.tokens import show_token
from workbench.neurons.decoding import DecodedModel
from workbench.neurons.exports import neurons_csv
from workbench.neurons.filtering import filter_neurons
from workbench.neurons.rows import DecodedNeuron, read_rows

PROBABILITY = st.column_config.NumberColumn(
    format="%.2e", help="Share of the softmax over the vocabulary, 0 to 1"
)


def show_browser(loaded: LoadedModel, decoded: DecodedModel, asked: BrowseRequest) -> None:
    """All neurons that pass the filters, paginated."""
    indices = filter_neurons(loaded, decoded, asked.wanted)
    if len(indices) == 0:
        show_empty(
            "No neuron passes these filters: reduce the smallest probability, or choose more layers or kinds."
        )
        return
    pages = -(-len(indices) // asked.length)
    bottom = asked.wanted.end == "bottom"

    def csv() -> bytes:
        return neurons_csv(read_rows(loaded, decoded, indices.tolist()), decoded.top_ids.shape[1])

    place = st.container()
    with st.container(horizontal=True, vertical_alignment="center"):
        page = st.pagination(pages, key=state.PAGE, bind="query-params") if pages > 1 else 1
        count = f"{len(indices):,} of {len(decoded):,} neurons"
        st.caption(f"{count} · page {page:,} of {pages:,}", width="content")
    shown = [int(i) for i in indices[(page - 1) * asked.length : page * asked.length]]
    with place:
        _browse_table(list(read_rows(loaded, decoded, shown)), asked)
    with st.container(horizontal=True):
        show_download(f"All {len(indices):,} rows as CSV", csv, "neurons.csv", key="browse_csv")
        explain_decoding()
    label_p = decoded.probability(bottom=bottom)[:, 0]
    show_neuron_map(loaded, decoded, label_p, shown, bottom=bottom)


def _browse_table(neurons: Sequence[DecodedNeuron], asked: BrowseRequest) -> None:
    end = asked.wanted.end
    addresses = [str(neuron.address) for neuron in neurons]
    table = {
        "label": [show_token(getattr(n, end)[0].token) for n in neurons],
        "p": [getattr(n, end)[0].probability for n in neurons],
        "logit": [getattr(n, end)[0].logit for n in neurons],
        "entropy": [n.entropy for n in neurons],
        "norm": [n.weight_norm for n in neurons],
        "kurtosis": [n.kurtosis for n in neurons],
        f"{end} tokens": [join_top_tokens(n, end) for n in neurons],
    }
    config = {
        "p": PROBABILITY,
        "logit": st.column_config.NumberColumn(format="%.2f"),
        "entropy": st.column_config.NumberColumn("entropy (nats)", format="%.2f"),
        "norm": st.column_config.NumberColumn("‖w‖", format="%.2f", help="Length of the vector"),
        "kurtosis": st.column_config.NumberColumn(
            format="%.2f", help="Excess kurtosis of its logits: high where it concerns few tokens"
        ),
        f"{end} tokens": st.column_config.TextColumn(width="large"),
    }
    show_neuron_table(table, addresses, config, key="browsed")
    promoted = "promotes" if end == "top" else "suppresses"
    show_caption(
        f"A label is the token that the {asked.site} vector {promoted} most. Click a name to open its neuron."
    )


def show_neuron_table(
    table: dict[str, Any], addresses: Sequence[str], config: dict[str, Any], *, key: str
) -> None:
    """One row per address, its name first. A click on the name, or a ticked row, opens the neuron here."""
    name = st.column_config.ButtonColumn(
        "Neuron",
        type="tertiary",
        alignment="left",
        pinned=True,
        help="Opens the neuron; on the keyboard Shift+Space",
        key=f"{key}_open",
        on_click=_open_pressed,
        args=(f"{key}_open", addresses),
    )
    st.dataframe(
        pd.DataFrame({"address": list(addresses), **table}),
        hide_index=True,
        column_config={"address": name, **config},
        key=key,
        on_select=lambda: _open_row(key, addresses),
        selection_mode="single-row",
    )


def _open_pressed(key: str, addresses: Sequence[str]) -> None:
    row = read_pressed_row(st.session_state[key])
    if row is not None:
        open_neuron(addresses[row])


def _open_row(key: str, addresses: Sequence[str]) -> None:
    row = read_selection(st.session_state[key]).row
    if row is not None:
        open_neuron(addresses[row])
