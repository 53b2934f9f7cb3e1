"""Finding of a comparison of two models; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.tokens import show_token
from store.comparison_evidence import read_comparison


def show_comparison(evidence: Mapping[str, Any]) -> None:
    """The share of equal labels by layer, and the neurons that changed."""
    found = read_comparison(evidence)
    table = {
        "layer": [row.layer for row in found.layers],
        "same label": [row.share for row in found.layers],
        "neurons": [row.neurons for row in found.layers],
    }
    share = {"same label": st.column_config.ProgressColumn(min_value=0.0, max_value=1.0)}
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=share)
    if found.changed:
        st.markdown("**Neurons that changed**")
        rows = {
            "neuron": [address for address, _, _ in found.changed],
            "base": [show_token(base[0]) for _, base, _ in found.changed],
            "p base": [base[1] for _, base, _ in found.changed],
            "tuned": [show_token(tuned[0]) for _, _, tuned in found.changed],
            "p tuned": [tuned[1] for _, _, tuned in found.changed],
        }
        st.dataframe(pd.DataFrame(rows), hide_index=True)
        show_caption("Ordered by label probability in both models, largest first.")


def open_comparison(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same comparison on the page Compare."""
    found = read_comparison(evidence)
    view = {state.OTHER: found.tuned, state.SITE: found.site, state.NORM: found.norm}
    show_page_link(
        "Open in Compare",
        "/compare",
        icon=":material/compare_arrows:",
        **{state.MODEL: model_name, **{key: value for key, value in view.items() if value}},
    )
