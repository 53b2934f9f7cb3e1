"""Exports of the Skills page: finding, numbers, link to Unlearn."""

from __future__ import annotations

import json

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from pages.intervene.skills.choice import show_unlearn_link
from pages.intervene.skills.view import View
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import show_download, show_page_link
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.findings.findings import all_tags
from workbench.skills.evidence import SkillAnswer, describe_key_space, keep_key_space
from workbench.skills.key_space import KeySpaceQuestion

_KEPT = "_kept_skill_finding"


def offer_skill_exports(
    loaded: LoadedModel,
    question: KeySpaceQuestion,
    run: str,
    space: KeySpace,
    view: View,
    tried: TriedQuery | None,
) -> None:
    """Keep the skill's boxes as a finding, export them, or go on to unlearn the skill."""
    asked = None if tried is None else (str(st.session_state[state.QUERY]), tried)
    found = describe_key_space(
        loaded, question, run, space, view.layers, view.alpha, layer=view.layer, tried=asked
    )
    st.divider()
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
            _keep_form(loaded, found)
        show_download("Numbers as JSON", json.dumps(found.to_document()), "skill.json", key="skill_numbers")
        show_unlearn_link(question.skill.name)


def _keep_form(loaded: LoadedModel, found: SkillAnswer) -> None:
    with st.form("keep_skill", border=False):
        title = st.text_input("Title", _propose_title(found))
        note = st.text_area("Note", placeholder="What it shows, and what would contradict it")
        tags = st.multiselect(
            "Tags", list(all_tags(get_store())), accept_new_options=True, placeholder="Choose or type"
        )
        pressed = st.form_submit_button("Keep", type="primary")
    this = (found.run, found.layers, found.alpha, found.prompt)
    if pressed:
        with show_errors():
            finding = keep_key_space(loaded, get_store(), found, title=title, note=note, tags=tags)
            st.session_state[_KEPT] = (this, finding.id)
            st.toast(f"Kept: {escape_text(finding.title)}", icon=":material/bookmark_added:")
    kept, finding_id = st.session_state.get(_KEPT, (None, None))
    if kept == this:
        show_page_link(
            "Open the finding you kept", "/findings", icon=":material/bookmark:", finding=finding_id
        )


def _propose_title(found: SkillAnswer) -> str:
    """`arithmetic: 87 % inside the box of L3 at α = 3.25`."""
    own, layers = found.sets[0], found.layers
    boxes = f"the box of L{layers[0]}" if len(layers) == 1 else f"the boxes of {len(layers)} layers"
    share = "unknown" if own.refused is None else f"{own.refused:.0%}"
    return f"{found.skill}: {share} inside {boxes} at α = {found.alpha:g}"
