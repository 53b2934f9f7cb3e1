"""A model's decoding: from the store, else by a job; for a large model the job starts on request."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest
from pages.shared.decodings import SMALL
from pages.shared.jobs.timing import estimate_decoding
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.layout import show_empty, show_method
from pages.shared.resources import get_store
from workbench.kinds import Order
from workbench.neurons.browsing import DecodingState, read_decoding_state
from workbench.neurons.decoding import DecodedModel, find_spec, order_decoding, read_decoded


def load_decoding(loaded: LoadedModel, asked: BrowseRequest) -> DecodedModel | None:
    """The decoding at the chosen site; None while the page offers it or shows its progress."""
    site, norm = asked.site, asked.norm
    found = read_decoding_state(loaded, get_store(), site, norm)
    if not found.finished:
        order = order_decoding(loaded, get_store(), site=site, norm=norm)
        if found.neurons >= SMALL and not (is_under_way(order) or has_failed(order)):
            _offer(found, asked, order)
            return None
        if not ensure_done(order, f"{found.neurons:,} neurons are decoded at {site}. {_WHAT_IT_IS}"):
            return None
    return read_decoded(loaded, get_store(), find_spec(loaded, get_store(), site, norm).key, site)


def is_ready_to_search(loaded: LoadedModel, asked: BrowseRequest) -> bool:
    """Whether a word can be ranked as asked; else the page offers what it needs, or shows its progress.

    By z and cosine it always can, unless the vectors lie at the Hub; by probability once the map is stored.
    """
    needed = loaded.at_hub is not None or asked.by == "probability"
    return not needed or load_decoding(loaded, asked) is not None


def offer_map(loaded: LoadedModel, asked: BrowseRequest) -> None:
    """Below results that lack probabilities: the job that decodes all neurons, or the button for it."""
    order = order_decoding(loaded, get_store(), site=asked.site, norm=asked.norm)
    neurons = read_decoding_state(loaded, get_store(), asked.site, asked.norm).neurons
    why = f"All {neurons:,} neurons are decoded at {asked.site}, for the probabilities. {_WHAT_IT_IS}"
    if is_under_way(order) or has_failed(order):
        if ensure_done(order, why):
            st.rerun()
    elif st.button(
        f"Decode all {neurons:,} neurons at {asked.site} ({estimate_decoding(loaded, neurons)})",
        icon=":material/play_arrow:",
        key=f"decode_{asked.site}",
        help="For probabilities, and the label of every neuron; done once, and stored",
    ):
        request_order(order)


_WHAT_IT_IS = "It is done once and stored; the page continues automatically."


def _offer(found: DecodingState, asked: BrowseRequest, order: Order) -> None:
    """Explain decoding, with the button that starts it."""
    label, begun = f"Decode at {asked.site}", ""
    if found.blocks_done:
        label = f"Resume at {asked.site}"
        begun = f" {found.blocks_done:,} of {found.blocks:,} blocks are stored already."
    show_empty(
        f"Decoding reads the {asked.site} vector of each of the {found.neurons:,} neurons through the "
        f"language-model head: the tokens it promotes and suppresses. It is done once and stored.{begun}"
    )
    if st.button(label, type="primary", icon=":material/play_arrow:", key=f"decode_{asked.site}"):
        request_order(order)
    explain_decoding()


def explain_decoding() -> None:
    """The decoding formula, its options, the paper."""
    show_method("How neurons are decoded", FORMULA, "Davies 2025, “Flash Interpretability”, arXiv 2501.02688")


FORMULA = r"""
$$z_i = s \cdot W_U \, n(w_i), \quad p_i = \mathrm{softmax}(z_i), \quad \mathrm{label}_i = \arg\max_t p_i[t]$$

$w_i$ is a neuron's vector at the chosen *site*, $n$ the chosen *norm*, $W_U$ the language-model head and
$s$ its scale; no bias and no cap. Exact over the whole vocabulary. *z-score*: $(z - \mu_z)/\sigma_z$ over the
vocabulary. *Entropy*: that of $p_i$, in nats; 0 if one token has all the probability. *Kurtosis*:
$\sum_t (z_t - \mu_z)^4 / (V \sigma_z^4) - 3$, 0 for a normal distribution; high where the neuron concerns few
tokens. *Cosines* are those of the neuron's stored vectors with each other.

A word's variants (`dog`, ` dog`, ` Dog`) are merged: token, z-score and cosine of a row are those of one
variant, the one that decides the ranking; probabilities are summed. z-score and cosine need only the head's
mean and covariance, so a word is found before anything is decoded. A search is one product over **all**
neurons, not a lookup in stored top tokens.

The site `up` of a gated block says what the neuron reads, not what it does: its sign does not fix the sign of
the effect.
"""
