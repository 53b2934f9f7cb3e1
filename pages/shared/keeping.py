"""Keep what was measured as a finding: one form for every page whose answer is a stored run."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.shared.errors import show_errors
from pages.shared.layout import show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.findings.findings import Finding, all_tags

Keep = Callable[[str, str, list[str]], Finding]
_KEPT = "_kept_answers"


def offer_keeping_answer(run: str, title: str, keep: Keep, *, label: str = "Keep as a finding") -> None:
    """A popover with title, note and tags. run: of the answer, of which the session keeps its finding; keep:
    takes the three.
    """
    with st.popover(label, icon=":material/bookmark_add:"):
        with st.form(f"keep_{run}", border=False):
            given = st.text_input("Title", title)
            note = st.text_area("Note", placeholder="What it shows, and what would contradict it")
            tags = st.multiselect("Tags", list(all_tags(get_store())), accept_new_options=True)
            pressed = st.form_submit_button("Keep", type="primary")
        if pressed:
            with show_errors():
                finding = keep(given, note, tags)
                st.session_state[_KEPT] = {**st.session_state.get(_KEPT, {}), run: finding.id}
                st.toast(f"Kept: {escape_text(finding.title)}", icon=":material/bookmark_added:")
        if run in st.session_state.get(_KEPT, {}):
            finding_id = st.session_state[_KEPT][run]
            show_page_link("Open the finding", "/findings", icon=":material/bookmark:", finding=finding_id)
