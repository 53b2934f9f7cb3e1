"""Verdicts on methods of unlearning: the sentence, in green or brick, and the table behind it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from pages.shared.layout import show_caption
from pages.shared.tokens import escape_text
from store.unlearning_evidence import MEASURE_COLUMNS, MethodVerdict

HOW_TO_READ = (
    "Each row is the worst of its kind: the form in which least is forgotten, and the largest cost. 95 %: "
    "the interval; n: examples; ✗: beyond the bound."
)
_SHOWN = {
    True: (st.success, ":material/check_circle:"),
    False: (st.error, ":material/cancel:"),
    None: (st.info, ":material/help:"),
}


def show_method_verdict(verdict: MethodVerdict) -> None:
    """The sentence: green if every measure keeps its bound, brick if one does not, blue if undecided."""
    show, icon = _SHOWN[verdict.reached]
    show(escape_text(verdict.sentence), icon=icon)


def show_measures(verdict: MethodVerdict) -> None:
    """The table of a verdict, and what the method took."""
    st.markdown(f"**{escape_text(verdict.title)}**")
    rows = [row.cells() for row in verdict.rows]
    st.dataframe(pd.DataFrame(rows, columns=list(MEASURE_COLUMNS)), hide_index=True)
    show_caption(f"{HOW_TO_READ} What it took: {escape_text(verdict.took or 'nothing')}.")
