"""Finding of a pruning: verdict, effect beside random sets, numbers; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures.pruning import effect_figure
from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.links.questions import make_pruning_view
from pages.shared.pair import HOW_TO_READ, place_pair, show_pair, split_words
from store.evidence import EvidenceView
from store.pruning_evidence import SET_COLUMNS
from workbench.findings.charts import group_effects


def show_pruning_finding(shown: EvidenceView) -> None:
    """Effect, both texts and every set's numbers; the headline above holds the verdict."""
    groups = group_effects(shown)
    if groups:
        st.plotly_chart(effect_figure(groups), key="finding_effects", alt="Change of mean NLL")
        show_caption(
            "Change of the mean NLL on held-out text. Each grey dot: a random set of as many experts."
        )
    if shown.base_text or shown.changed_text:
        st.markdown("**The same text continued**")
        texts = split_words(shown.base_text), split_words(shown.changed_text)
        show_pair(place_pair(), *texts, before=shown.prompt)
        st.caption(HOW_TO_READ)
    if shown.pruned_sets:
        with st.expander("Numbers", icon=":material/table:"):
            rows = [one.cells() for one in shown.pruned_sets]
            st.dataframe(pd.DataFrame(rows, columns=list(SET_COLUMNS)), hide_index=True, placeholder="–")


def open_pruning(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same experts on the page Experts."""
    view = make_pruning_view(evidence["question"]) if "question" in evidence else {}
    show_page_link("Open in Experts", "/experts", icon=":material/hub:", **{state.MODEL: model_name, **view})
