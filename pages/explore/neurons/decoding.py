"""A model's decoding: from the store, else by a job; a large model's job begins when somebody asks for it."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import Asked
from pages.shared.decodings import SMALL
from pages.shared.jobs.waiting import ask_for, finished, has_failed, is_under_way
from pages.shared.layout import empty, method
from pages.shared.resources import store
from workbench.kinds import Order, make_order
from workbench.neurons.browsing import DecodingState, decoding_state
from workbench.neurons.decoding import DECODE, TOP_K, DecodedModel, decode_spec, read_decoded


def decoded_model(loaded: LoadedModel, asked: Asked) -> DecodedModel | None:
    """The decoding at the chosen site; None where the page now offers it, or shows how far it is."""
    site, norm = asked.site, asked.norm
    found = decoding_state(loaded, store(), site, norm)
    if not found.finished:
        order = make_order(DECODE, loaded.ref, site=site, norm=norm, top_k=TOP_K)
        if found.neurons >= SMALL and not (is_under_way(order) or has_failed(order)):
            _offer(found, asked, order)
            return None
        if not finished(order, f"{found.neurons:,} neurons are decoded at {site}. {_WHAT_IT_IS}"):
            return None
    return read_decoded(loaded, store(), decode_spec(loaded, site, norm, TOP_K).key, site)


_WHAT_IT_IS = "It is done once and kept; the page goes on by itself afterwards."


def _offer(found: DecodingState, asked: Asked, order: Order) -> None:
    """Say what decoding is, and the button that asks for it."""
    label, begun = f"Decode at {asked.site}", ""
    if found.blocks_done:
        label = f"Go on at {asked.site}"
        begun = f" {found.blocks_done:,} of {found.blocks:,} blocks are stored already."
    empty(
        f"Decoding reads the {asked.site} vector of each of the {found.neurons:,} neurons through the "
        f"language-model head: the tokens it promotes and suppresses. It is done once and kept.{begun}"
    )
    if st.button(label, type="primary", icon=":material/play_arrow:", key=f"decode_{asked.site}"):
        ask_for(order)
    decoding_method()


def decoding_method() -> None:
    """The formula, its options, the paper."""
    method("How neurons are decoded", FORMULA, "Davies 2025, “Flash Interpretability”, arXiv 2501.02688")


FORMULA = r"""
$$z_i = s \cdot W_U \, n(w_i), \quad p_i = \mathrm{softmax}(z_i), \quad \mathrm{label}_i = \arg\max_t p_i[t]$$

$w_i$ is a neuron's vector at the chosen *site*, $n$ the chosen *norm*, $W_U$ the language-model head and
$s$ its scale; no bias and no cap. Exact over the whole vocabulary. *z-score*: $(z - \mu_z)/\sigma_z$ over the
vocabulary. *Entropy*: that of $p_i$, in nats; 0 where one token has it all.

A word's variants (`dog`, ` dog`, ` Dog`) are merged: probabilities are summed, z-score and cosine are those
of the variant where they are largest in size. A search is one product over **all** neurons, not a look into
stored tops.

The site `up` of a gated block says what the neuron reads, not what it does: its sign does not fix the sign of
the effect.
"""
