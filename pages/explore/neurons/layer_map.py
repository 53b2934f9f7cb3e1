"""The map of the Neurons page: layer × rank, the listed neurons circled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from analysis.figures.neurons import MOST_COLUMNS, LayerMap, Marks, layer_map_figure
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import open_clicked
from pages.shared.layout import CHART, show_caption
from pages.shared.tokens import render_token
from workbench.neurons.browsing import RankedLayers, rank_layers
from workbench.neurons.decoding import DecodedModel

MEASURE = "probability"
CIRCLED = 20
"""Neurons circled: the best of those listed; more would hide the map."""


def show_neuron_map(
    loaded: LoadedModel,
    decoded: DecodedModel,
    probability: np.ndarray[Any, Any],
    circled: Sequence[int],
    *,
    bottom: bool,
) -> None:
    """All neurons by the probability (n,) of their label; those at the indices `circled` can be clicked."""
    ranked = rank_layers(decoded.layer, probability, MOST_COLUMNS)
    texts = _texts(loaded, decoded, ranked, bottom=bottom)
    cells = LayerMap(ranked.layers, ranked.rank, ranked.value, texts, MEASURE)
    figure = layer_map_figure(cells, _marks(decoded, ranked, circled[:CIRCLED]))
    st.subheader("Map", anchor=False)
    st.plotly_chart(
        figure,
        key="map",
        on_select=lambda: open_clicked("map"),
        selection_mode="points",
        alt=f"Neurons by layer and rank, coloured by {MEASURE}",
        config=CHART,
    )
    step = int(ranked.rank[1] - ranked.rank[0]) if len(ranked.rank) > 1 else 1
    each = "one neuron" if step == 1 else f"the strongest of {step} neurons"
    show_caption(
        f"Row: layer. Cell: {each}, largest {MEASURE} at the left, and its colour. "
        "Circled: the best in the table; click one to open it."
    )


def _texts(
    loaded: LoadedModel, decoded: DecodedModel, ranked: RankedLayers, *, bottom: bool
) -> np.ndarray[Any, Any]:
    labels = (decoded.bottom_ids if bottom else decoded.top_ids)[:, 0]
    texts = np.full(ranked.index.shape, "", dtype=object)
    for place, index in np.ndenumerate(ranked.index):
        if index >= 0:
            label = render_token(loaded.vocabulary.texts[int(labels[index])])
            name = f"{decoded.address(int(index))}: {label}"
            texts[place] = f"{name}<br>{MEASURE} {ranked.value[place]:.3g}"
    return texts


def _marks(decoded: DecodedModel, ranked: RankedLayers, circled: Sequence[int]) -> Marks:
    rows, columns = np.nonzero(np.isin(ranked.index, list(circled)))
    names = [str(decoded.address(int(i))) for i in ranked.index[rows, columns]]
    return Marks(rows.tolist(), columns.tolist(), names)
