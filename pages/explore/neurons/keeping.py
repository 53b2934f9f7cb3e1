"""Keep a neuron as a finding."""

from __future__ import annotations

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared.errors import shown_errors
from pages.shared.layout import page_link
from pages.shared.resources import store
from pages.shared.tokens import plain, show_token
from workbench.findings.findings import all_tags, keep_neuron
from workbench.neurons.profiles import NeuronView

_KEPT = "_kept_neuron"


def keep_popover(loaded: LoadedModel, view: NeuronView) -> None:
    """A title, a note, tags; what the neuron says and how it fires is frozen with them."""
    with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
        with st.form("keep_neuron", border=False):
            title = st.text_input("Title", _proposed(view))
            note = st.text_area("Note", placeholder="What it shows, and what would speak against it")
            tags = st.multiselect("Tags", list(all_tags(store())), accept_new_options=True)
            pressed = st.form_submit_button("Keep", type="primary")
        if pressed:
            with shown_errors():
                finding = keep_neuron(loaded, store(), view, title=title, note=note, tags=tags)
                st.session_state[_KEPT] = (str(view.address), finding.id)
                st.toast(f"Kept: {plain(finding.title)}", icon=":material/bookmark_added:")
        kept, finding_id = st.session_state.get(_KEPT, (None, None))
        if kept == str(view.address):
            page_link("Open the finding", "/findings", icon=":material/bookmark:", finding=finding_id)


def _proposed(view: NeuronView) -> str:
    """`L2.N47 writes ␣dog`, from the down projection's best token."""
    best = view.decoded["down"].top[0].token
    return f"{view.address} writes {show_token(best)}"
