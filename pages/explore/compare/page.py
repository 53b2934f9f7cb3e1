"""Compare: which neurons of a tuned model still say what they said in its base."""

from __future__ import annotations

import streamlit as st

from analysis.neurons.decoding import NORMS
from pages.explore.compare.agreement import both_decoded, changed_table, shares
from pages.shared import state
from pages.shared.decodings import NORM_HELP, SITE_HELP
from pages.shared.errors import shown_errors
from pages.shared.layout import empty, page_header
from pages.shared.picker import other_model
from pages.shared.resources import model, store
from workbench.neurons.comparing import compare

page_header("Compare", "Which neurons of a tuned model still say what they said in its base?")
with shown_errors(), model() as base:
    first, second, third = st.columns([4, 2, 2])
    with first:
        ref = other_model("Tuned model")
    site = second.selectbox("Site", base.anatomy.sites, key=state.SITE, bind="query-params", help=SITE_HELP)
    norm = third.selectbox("Norm", NORMS, key=state.NORM, bind="query-params", help=NORM_HELP)
    if ref is None:
        empty(
            "Choose a model that was tuned from the open one. Both are decoded, and the label of each "
            "neuron, its top token, is compared: the share that stayed, whole and by layer, and what changed."
        )
    else:
        with model(ref) as tuned:
            if both_decoded(base, tuned, site, norm):
                found = compare(base, tuned, store(), site=site, norm=norm)
                shares(found)
                changed_table(base, tuned, found)
