"""Texts with the tokens shaded by how a neuron fires on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.intervening.clamps import ClampSite
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.layout import caption, download
from pages.shared.tokens import shaded_tokens, show_token
from workbench.files import table_csv
from workbench.neurons.browsing import excerpt
from workbench.neurons.profiles import FiringText, NeuronView, try_text

HEIGHT = 300
"""Of the table of a tried text, in pixels."""


def best_texts(view: NeuronView, site: ClampSite) -> None:
    """The stretches of the reference text where |key| is largest."""
    if not view.texts:
        st.info("It never fires on the reference text. Try a text of your own below.")
        return
    largest = _largest(view, site)
    for firing in view.texts:
        part = excerpt(firing, site)
        before, after = "… " * part.cut_before, " …" * part.cut_after
        peak = float(np.nanmax(np.abs(part.values), initial=0.0))
        with st.container(border=True):
            st.html(f"{before}{shaded_tokens(part.tokens, part.values.tolist(), largest=largest)}{after}")
            st.caption(f"largest |{site}| here {peak:.3g}, from position {part.first}")
    caption(
        "The passages where its key is largest, around their peaks. Amber: positive, blue: negative, full at "
        f"±{largest:.3g}, the largest on the whole text. Dotted: not routed to its expert. Hover: values."
    )


def try_box(loaded: LoadedModel, view: NeuronView, site: ClampSite) -> None:
    """Any text, shaded. Raises PromptTooLong."""
    text = st.text_area(
        "Try a text",
        key=state.TEXT,
        bind="query-params",
        placeholder="Type or paste anything, then press Ctrl+Enter: tokens are shaded by how it fires",
        height=90,
    )
    if not text.strip():
        return
    firing = try_text(loaded, view.address, text)
    largest = _largest(view, site) or float(np.nanmax(np.abs(firing.values[site]), initial=0.0))
    with st.container(border=True):
        st.html(shaded_tokens(firing.tokens, firing.values[site].tolist(), largest=largest))
    caption(f"Shaded by {site} on the same scale as above: full at ±{largest:.3g}.")
    with st.expander("Numbers", icon=":material/table:"):
        columns: dict[str, Any] = {
            name: values for name, values in firing.values.items() if not np.isnan(values).all()
        }
        table = pd.DataFrame({"token": [show_token(token) for token in firing.tokens], **columns})
        number = st.column_config.NumberColumn(format="%.4g")
        st.dataframe(table, column_config=dict.fromkeys(columns, number), height=HEIGHT)
        download("Values as CSV", _firing_csv(firing), f"{view.address}-text.csv", key="firing_csv")


def _largest(view: NeuronView, site: ClampSite) -> float:
    return 0.0 if view.profile is None else view.profile[site].largest


def _firing_csv(firing: FiringText) -> bytes:
    sites = list(firing.values)
    rows = (
        [position, token, *(float(firing.values[site][position]) for site in sites)]
        for position, token in enumerate(firing.tokens)
    )
    return table_csv(["position", "token", *sites], rows)
