"""Keep a neuron as a finding."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.errors import show_errors
from pages.shared.layout import show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.findings.findings import all_tags, keep_neuron
from workbench.neurons.profiles import NeuronView

_KEPT = "_kept_neuron"


def offer_keeping(loaded: LoadedModel, view: NeuronView) -> None:
    """Title, note and tags; the neuron's decoding and activations are frozen with them."""
    with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
        with st.form("keep_neuron", border=False):
            title = st.text_input("Title", _propose_title(view))
            note = st.text_area("Note", placeholder="What it shows, and what would contradict it")
            tags = st.multiselect("Tags", list(all_tags(get_store())), accept_new_options=True)
            pressed = st.form_submit_button("Keep", type="primary")
        if pressed:
            with show_errors():
                finding = keep_neuron(loaded, get_store(), view, title=title, note=note, tags=tags)
                st.session_state[_KEPT] = (str(view.address), finding.id)
                st.toast(f"Kept: {escape_text(finding.title)}", icon=":material/bookmark_added:")
        kept, finding_id = st.session_state.get(_KEPT, (None, None))
        if kept == str(view.address):
            show_page_link("Open the finding", "/findings", icon=":material/bookmark:", finding=finding_id)


def _propose_title(view: NeuronView) -> str:
    """`L2.N47 writes ␣dog`, from the down projection's best token."""
    best = view.decoded["down"].top[0].token
    return f"{view.address} writes {show_token(best)}"
