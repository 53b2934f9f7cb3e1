"""Texts with tokens shaded by a neuron's activation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from analysis.intervening.clamps import ClampSite
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.layout import show_caption, show_download
from pages.shared.tokens import shade_tokens, show_token
from workbench.files import table_csv
from workbench.neurons.browsing import cut_excerpt
from workbench.neurons.firing import FiringText, try_text
from workbench.neurons.profiles import NeuronView

HEIGHT = 300
"""Height of the table of a tried text, in pixels."""


def show_best_texts(view: NeuronView, site: ClampSite, *, spaces: bool) -> None:
    """The passages of the reference text with the largest |key|. spaces: leading ones as ␣."""
    if not view.texts:
        st.info("It never fires on the reference text. Try your own text below.")
        return
    largest = _largest(view, site)
    for firing in view.texts:
        part = cut_excerpt(firing, site)
        before, after = "… " * part.cut_before, " …" * part.cut_after
        with st.container(border=True):
            shades = shade_tokens(
                part.tokens, part.values.tolist(), largest=largest, spaces=spaces, peak=True
            )
            st.html(f"{before}{shades}{after}")
            st.caption(f"from position {part.first}")
    show_caption(
        f"The passages where its key is largest; bold: the largest {site} there, with its value. Amber: "
        f"positive, blue: negative, saturated at ±{largest:.3g}, the largest on the whole text. Dotted: not "
        "routed to its expert. Hover: values."
    )


def show_try_box(loaded: LoadedModel, view: NeuronView, site: ClampSite, *, spaces: bool) -> None:
    """Any text, shaded. spaces: leading ones as ␣. Raises PromptTooLong."""
    text = st.text_area(
        "Try a text",
        key=state.TEXT,
        bind="query-params",
        placeholder="Type or paste text, then press Ctrl+Enter: tokens are shaded by the neuron's activation",
        height=90,
    )
    if not text.strip():
        return
    firing = try_text(loaded, view.address, text)
    largest = _largest(view, site) or float(np.nanmax(np.abs(firing.values[site]), initial=0.0))
    with st.container(border=True):
        values = firing.values[site].tolist()
        st.html(shade_tokens(firing.tokens, values, largest=largest, spaces=spaces, peak=True))
    show_caption(f"Shaded by {site} on the same scale as above: saturated at ±{largest:.3g}.")
    with st.expander("Numbers", icon=":material/table:"):
        columns: dict[str, Any] = {
            name: values for name, values in firing.values.items() if not np.isnan(values).all()
        }
        table = pd.DataFrame({"token": [show_token(token) for token in firing.tokens], **columns})
        number = st.column_config.NumberColumn(format="%.4g")
        st.dataframe(table, column_config=dict.fromkeys(columns, number), height=HEIGHT)
        show_download("Values as CSV", _firing_csv(firing), f"{view.address}-text.csv", key="firing_csv")


def _largest(view: NeuronView, site: ClampSite) -> float:
    return 0.0 if view.profile is None else view.profile[site].largest


def _firing_csv(firing: FiringText) -> bytes:
    sites = list(firing.values)
    rows = (
        [position, token, *(float(firing.values[site][position]) for site in sites)]
        for position, token in enumerate(firing.tokens)
    )
    return table_csv(["position", "token", *sites], rows)
