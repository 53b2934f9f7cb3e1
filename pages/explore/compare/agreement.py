"""Panels of the Compare page: both decodings, label agreement, and the neurons that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import streamlit as st

from analysis.anatomy.anatomy import Site
from analysis.figures.agreement import agreement_figure
from analysis.neurons.decoding import NeuronNorm
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.decodings import join_top_tokens
from pages.shared.jobs.timing import estimate_decoding
from pages.shared.jobs.waiting import ensure_done
from pages.shared.keeping import offer_keeping_answer
from pages.shared.layout import CHART, shorten_model, show_caption, show_download, show_empty, show_method
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.files import table_csv
from workbench.findings.findings import Finding, keep_comparison
from workbench.neurons.browsing import read_decoding_state
from workbench.neurons.comparing import (
    ChangedNeuron,
    Comparison,
    not_decoded,
    rank_changes,
    read_changed_neurons,
)
from workbench.neurons.comparison_evidence import format_share
from workbench.neurons.decoding import order_decoding

LENGTH = 50
FORMULA = r"""
$$\text{agreement} = \frac{1}{n} \sum_i
\left[\arg\max_t z_i^{\text{base}}[t] = \arg\max_t z_i^{\text{tuned}}[t]\right]$$

The mean over all $n$ neurons at the chosen site: no sample, so no interval. Both models must have the same
neurons and the same tokens.
"""


def ensure_both_decoded(base: LoadedModel, tuned: LoadedModel, site: Site, norm: NeuronNorm) -> bool:
    """Whether both models are decoded; until then the page shows the decoding job."""
    for loaded in not_decoded(base, tuned, get_store(), site, norm):
        order = order_decoding(loaded, get_store(), site=site, norm=norm)
        takes = estimate_decoding(loaded, read_decoding_state(loaded, get_store(), site, norm).neurons)
        name = escape_text(shorten_model(loaded.ref.name))
        if not ensure_done(order, f"{name} is decoded at {site}, once: {takes}."):
            return False
    return True


def show_shares(found: Comparison) -> None:
    """The share of neurons with the same label, overall and by layer."""
    agreement = found.agreement
    with st.container(horizontal=True):
        st.metric("Same label", format_share(found), border=True)
        st.metric("Neurons", f"{len(found.base):,}", border=True)
        st.metric("Changed", f"{len(agreement.changed):,}", border=True)
    st.plotly_chart(
        agreement_figure(agreement), key="agreement", alt="Share with the same label by layer", config=CHART
    )
    show_caption(
        "Share of each layer's neurons whose top token is the same in both models; dotted: all layers."
    )
    show_method("How models are compared", FORMULA, "Davies 2025, “Flash Interpretability”, arXiv 2501.02688")


def offer_keeping_comparison(base: LoadedModel, tuned: LoadedModel, found: Comparison) -> None:
    """Keep the comparison as a finding."""

    def keep(title: str, note: str, tags: list[str]) -> Finding:
        return keep_comparison(base, tuned, get_store(), found, title=title, note=note, tags=tags)

    names = (shorten_model(loaded.ref.name) for loaded in (tuned, base))
    title = f"{' against '.join(names)}: {format_share(found)} of labels kept at {found.site}"
    offer_keeping_answer(f"{found.base.run}-{found.tuned.run}", title, keep)


def show_changed(base: LoadedModel, tuned: LoadedModel, found: Comparison) -> None:
    """The neurons whose label changed, most confident first, paginated."""
    order = rank_changes(found)
    if not order:
        show_empty("Every neuron has the same label in both models.")
        return
    st.subheader("Neurons that changed", anchor=False)
    pages = -(-len(order) // LENGTH)
    place = st.container()
    page = st.pagination(pages, key=state.PAGE, bind="query-params") if pages > 1 else 1
    pairs = read_changed_neurons(base, tuned, found, order[(page - 1) * LENGTH : page * LENGTH])
    place.dataframe(
        pd.DataFrame(
            {
                "neuron": [
                    state.make_link("/neurons", neuron=str(p.base.address), site=found.site) for p in pairs
                ],
                "base": [show_token(p.base.top[0].token) for p in pairs],
                "p base": [p.base.top[0].probability for p in pairs],
                "tuned": [show_token(p.tuned.top[0].token) for p in pairs],
                "p tuned": [p.tuned.top[0].probability for p in pairs],
                "top tokens, base": [join_top_tokens(p.base) for p in pairs],
                "top tokens, tuned": [join_top_tokens(p.tuned) for p in pairs],
            }
        ),
        hide_index=True,
        column_config={
            "neuron": st.column_config.LinkColumn("Neuron", display_text=r"[?&]neuron=([^&]+)"),
            "p base": st.column_config.NumberColumn(format="%.4f"),
            "p tuned": st.column_config.NumberColumn(format="%.4f"),
        },
    )
    show_caption(
        "Ordered by label probability in both models, largest first. p: share of the softmax over the "
        "vocabulary, 0 to 1."
    )
    show_download(
        f"All {len(order):,} as CSV",
        lambda: _csv(read_changed_neurons(base, tuned, found, order)),
        "changed-neurons.csv",
        key="changed_csv",
    )


def _csv(pairs: Sequence[ChangedNeuron]) -> bytes:
    def rows() -> Iterator[list[object]]:
        for pair in pairs:
            one, other = pair.base.top[0], pair.tuned.top[0]
            yield [str(pair.base.address), one.token, one.probability, other.token, other.probability]

    return table_csv(["address", "base", "base_probability", "tuned", "tuned_probability"], rows())
