"""Compare: which neurons of a tuned model keep the label they have in its base."""

from __future__ import annotations

import streamlit as st

from analysis.neurons.decoding import NORMS
from pages.explore.compare.agreement import (
    ensure_both_decoded,
    offer_keeping_comparison,
    show_changed,
    show_shares,
)
from pages.shared import state
from pages.shared.decodings import NORM_HELP, SITE_HELP
from pages.shared.errors import show_errors
from pages.shared.layout import show_empty, show_header
from pages.shared.picker import pick_other_model
from pages.shared.resources import get_store, use_model
from workbench.neurons.comparing import compare_models

show_header("Compare", "Which neurons of a tuned model keep their label?")
with show_errors(), use_model() as base:
    first, second, third = st.columns([4, 2, 2])
    with first:
        ref = pick_other_model("Tuned model")
    site = second.selectbox("Site", base.anatomy.sites, key=state.SITE, bind="query-params", help=SITE_HELP)
    norm = third.selectbox("Norm", NORMS, key=state.NORM, bind="query-params", help=NORM_HELP)
    if ref is None:
        show_empty(
            "Choose a model that was tuned from the open one. Both are decoded, and each neuron's label, "
            "its top token, is compared: the share of equal labels, overall and by layer, and the "
            "neurons that changed."
        )
    else:
        with use_model(ref) as tuned:
            if ensure_both_decoded(base, tuned, site, norm):
                found = compare_models(base, tuned, get_store(), site=site, norm=norm)
                show_shares(found)
                offer_keeping_comparison(base, tuned, found)
                show_changed(base, tuned, found)
