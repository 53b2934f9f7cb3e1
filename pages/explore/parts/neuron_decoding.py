"""A model's decoding: at once from the store, at once where it is small, else when somebody asks for it."""

from __future__ import annotations

import streamlit as st

from analysis.models import LoadedModel
from pages.explore.parts.neuron_controls import Asked
from pages.shared.layout import empty, method, progress_bar
from pages.shared.resources import store
from workbench.browsing import DecodingState, decoding_state
from workbench.neurons import DecodedModel, decode_model, read_decoded

SMALL = 50_000
"""Neurons that are decoded without being asked: a matter of seconds."""


def decoded_model(loaded: LoadedModel, asked: Asked) -> DecodedModel | None:
    """The decoding at the chosen site, or None where the page now says what decoding is and offers it."""
    found = decoding_state(loaded, store(), asked.site, asked.norm)
    offer, stop = st.empty(), st.empty()
    if not found.finished and found.neurons >= SMALL:
        with offer.container():
            if not _offered(found, asked):
                return None
        offer.empty()
        help = "The blocks that are decoded by then stay stored."
        stop.button("Stop", icon=":material/stop:", key=f"stop_{asked.site}", help=help)
    progress = progress_bar(f"Decoding {found.neurons:,} neurons at {asked.site}")
    run = decode_model(loaded, store(), site=asked.site, norm=asked.norm, progress=progress).run
    stop.empty()
    return read_decoded(loaded, store(), run.key, asked.site)


def _offered(found: DecodingState, asked: Asked) -> bool:
    """Say what decoding is; True in the run in which the button was pressed."""
    label = f"Decode at {asked.site}"
    begun = ""
    if found.blocks_done:
        label = f"Go on at {asked.site}"
        begun = f" {found.blocks_done:,} of {found.blocks:,} blocks are stored already."
    empty(
        f"Decoding reads the {asked.site} vector of each of the {found.neurons:,} neurons through the "
        f"language-model head: the tokens it promotes and suppresses. It is done once and kept.{begun}"
    )
    pressed = st.button(label, type="primary", icon=":material/play_arrow:", key=f"decode_{asked.site}")
    decoding_method()
    return pressed


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
