"""What a neuron decodes to at each site, side by side, with the numbers of its vectors."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from pages.explore.neurons.decoding import explain_decoding
from pages.shared.layout import show_caption, show_download
from pages.shared.tokens import show_token
from workbench.files import table_csv
from workbench.neurons.rows import DecodedNeuron, TokenScore

SITE_TITLES: dict[Site, str] = {"up": "up: reads", "gate": "gate: opens for", "down": "down: writes"}


def show_sites(address: NeuronAddress, decoded: dict[Site, DecodedNeuron]) -> None:
    """Top and bottom tokens at each site, side by side."""
    for tab, end in zip(st.tabs(["Promotes", "Suppresses"]), ("top", "bottom"), strict=True):
        with tab:
            for column, (site, neuron) in zip(st.columns(len(decoded)), decoded.items(), strict=True):
                with column:
                    _site_table(site, neuron, end)
    show_caption(
        "Best first: each token's logit through the head, and its share p of the softmax over the vocabulary."
    )
    show_caption(_describe_cosines(decoded))
    with st.container(horizontal=True):
        csv = _tokens_csv(address, decoded)
        show_download("Tokens as CSV", csv, f"{address}-tokens.csv", key="tokens_csv")
        explain_decoding()


def _describe_cosines(decoded: dict[Site, DecodedNeuron]) -> str:
    """The cosines of the neuron's own vectors, of the first site whose map holds them."""
    shown = []
    for name in ("up_gate", "up_down", "gate_down"):
        known = [value for one in decoded.values() if (value := getattr(one, name)) is not None]
        shown.append(f"{name.replace('_', '·')} {f'{known[0]:+.3f}' if known else '–'}")
    return f"Cosines of its own vectors: {', '.join(shown)}."


def _site_table(site: Site, neuron: DecodedNeuron, end: str) -> None:
    scores: tuple[TokenScore, ...] = getattr(neuron, end)
    st.markdown(f"**{SITE_TITLES[site]}**")
    table = {
        "token": [show_token(score.token) for score in scores],
        "logit": [score.logit for score in scores],
        "p": [score.probability for score in scores],
    }
    config = {
        "logit": st.column_config.NumberColumn(format="%.2f"),
        "p": st.column_config.NumberColumn(format="%.1e"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config, height="content")
    kurtosis = "–" if neuron.kurtosis is None else f"{neuron.kurtosis:.2f}"
    st.caption(
        f"log Z {neuron.log_z:.2f} · entropy {neuron.entropy:.2f} nats · ‖w‖ {neuron.weight_norm:.2f} · "
        f"kurtosis {kurtosis}"
    )


def _tokens_csv(address: NeuronAddress, decoded: dict[Site, DecodedNeuron]) -> bytes:
    rows = [
        [str(address), site, end, rank, score.token_id, score.token, score.logit, score.probability]
        for site, neuron in decoded.items()
        for end in ("top", "bottom")
        for rank, score in enumerate(getattr(neuron, end), start=1)
    ]
    return table_csv(["address", "site", "end", "rank", "token_id", "token", "logit", "probability"], rows)
