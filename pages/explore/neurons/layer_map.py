"""The map of the Neurons page: layer × rank, the listed neurons circled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from analysis.figures.neurons import MOST_COLUMNS, LayerMap, Marks, layer_map_figure
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import open_neuron
from pages.shared.layout import show_caption
from pages.shared.tokens import render_token
from workbench.neurons.browsing import RankedLayers, rank_layers
from workbench.neurons.decoding import DecodedModel, NeuronIndex

CIRCLED = 20
"""Neurons circled: the best of those listed; more would hide the map."""


def show_neuron_map(
    loaded: LoadedModel,
    places: NeuronIndex,
    scores: np.ndarray[Any, Any],
    circled: Sequence[int],
    *,
    measure: str,
    signed: bool,
    bottom: bool = False,
) -> None:
    """All neurons by score (n,); those at the indices `circled` can be clicked. Labelled where decoded."""
    ranked = rank_layers(places.layer, scores, MOST_COLUMNS)
    texts = _texts(loaded, places, ranked, measure, bottom=bottom)
    cells = LayerMap(ranked.layers, ranked.rank, ranked.value, texts, signed, measure)
    figure = layer_map_figure(cells, _marks(places, ranked, circled[:CIRCLED]))
    st.subheader("Map", anchor=False)
    st.plotly_chart(
        figure,
        key="map",
        on_select=_open_clicked,
        selection_mode="points",
        alt=f"Neurons by layer and rank, coloured by {measure}",
        config={"toImageButtonOptions": {"format": "svg"}},
    )
    step = int(ranked.rank[1] - ranked.rank[0]) if len(ranked.rank) > 1 else 1
    each = "one neuron" if step == 1 else f"the strongest of {step} neurons"
    show_caption(
        f"Row: layer. Cell: {each}, largest {measure} at the left, and its colour. "
        "Circled: the best in the table; click one to open it."
    )


def _texts(
    loaded: LoadedModel, places: NeuronIndex, ranked: RankedLayers, measure: str, *, bottom: bool
) -> np.ndarray[Any, Any]:
    texts = np.full(ranked.index.shape, "", dtype=object)
    for place, index in np.ndenumerate(ranked.index):
        if index >= 0:
            name = f"{places.address(int(index))}{_label(loaded, places, int(index), bottom=bottom)}"
            texts[place] = f"{name}<br>{measure} {ranked.value[place]:.3g}"
    return texts


def _label(loaded: LoadedModel, places: NeuronIndex, index: int, *, bottom: bool) -> str:
    """`: ␣dog`, or nothing where the neurons are not decoded."""
    if not isinstance(places, DecodedModel):
        return ""
    labels = (places.bottom_ids if bottom else places.top_ids)[:, 0]
    return f": {render_token(loaded.vocabulary.texts[int(labels[index])])}"


def _marks(places: NeuronIndex, ranked: RankedLayers, circled: Sequence[int]) -> Marks:
    rows, columns = np.nonzero(np.isin(ranked.index, list(circled)))
    names = [str(places.address(int(i))) for i in ranked.index[rows, columns]]
    return Marks(rows.tolist(), columns.tolist(), names)


def _open_clicked() -> None:
    points = st.session_state["map"]["selection"]["points"]
    if points and points[0].get("customdata"):
        name = points[0]["customdata"]
        open_neuron(name if isinstance(name, str) else name[0])
