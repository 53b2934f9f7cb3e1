"""Exports of unlearning: recipe, script, weights, numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.intervene.unlearn.sentences import name_method
from pages.shared.errors import show_errors
from pages.shared.layout import shorten_model, show_download, show_page_link
from pages.shared.resources import get_store
from pages.shared.saving.form import offer_saving
from pages.shared.tokens import escape_text
from workbench.findings.findings import all_tags, keep_unlearning
from workbench.saving.saving import read_changes
from workbench.unlearning.answers import UnlearningAnswer
from workbench.unlearning.checks import pick_test_prompt
from workbench.unlearning.exports import (
    why_no_script,
    why_no_weights,
    why_nothing,
    write_change_script,
    zip_baked_model,
    zip_recipe,
)
from workbench.unlearning.questions import UnlearningQuestion

Files = Mapping[str, bytes]
_KEPT = "_kept_unlearning"


def offer_unlearning_exports(
    loaded: LoadedModel, question: UnlearningQuestion, found: UnlearningAnswer, recipes: Mapping[str, Files]
) -> None:
    """The numbers as JSON, and every method's change in each exact form."""
    st.subheader("Export", anchor=False)
    numbers = json.dumps(found.to_document(), indent=1, ensure_ascii=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
            _keep_form(loaded, question, found)
        show_download("Results as JSON", numbers, f"unlearn-{found.run[:8]}.json", key="unlearn_json")
    prompt = pick_test_prompt(question)
    for one in found.methods:
        stem = f"{one.method}-{found.run[:8]}"
        st.markdown(f"**{escape_text(name_method(one))}**")
        if why := why_nothing(read_changes(recipes[one.method])):
            st.caption(f"{escape_text(why).capitalize()}.")
        else:
            offer_change(loaded, recipes[one.method], stem, prompt)
    st.caption(
        "A recipe is a JSON document with a safetensors file beside it: "
        "`generate MODEL --prompt TEXT --recipe FILE.json` applies it. The script reads the two beside it."
    )


def _keep_form(loaded: LoadedModel, question: UnlearningQuestion, found: UnlearningAnswer) -> None:
    with st.form("keep_unlearning", border=False):
        title = st.text_input("Title", f"Forget {question.forget.name} in {shorten_model(loaded.ref.name)}")
        note = st.text_area("Note", placeholder="What it shows, and what would contradict it")
        tags = st.multiselect("Tags", list(all_tags(get_store())), accept_new_options=True)
        pressed = st.form_submit_button("Keep", type="primary")
    if pressed:
        with show_errors():
            kept = keep_unlearning(loaded, get_store(), question, found, title=title, note=note, tags=tags)
            st.session_state[_KEPT] = (found.run, kept.id)
            st.toast(f"Kept: {escape_text(kept.title)}", icon=":material/bookmark_added:")
    run, finding_id = st.session_state.get(_KEPT, (None, None))
    if run == found.run:
        show_page_link(
            "Open the finding you kept", "/findings", icon=":material/bookmark:", finding=finding_id
        )


def offer_change(loaded: LoadedModel, files: Files, stem: str, prompt: str) -> None:
    """One change as a recipe, a script and whole weights; or why a form is not available."""
    no_script, no_weights = why_no_script(loaded, files), why_no_weights(loaded, files)
    with st.container(horizontal=True):
        show_download("Recipe (zip)", partial(zip_recipe, files, stem), f"{stem}.zip", key=f"recipe_{stem}")
        if not no_script:
            script = partial(write_change_script, loaded, files, stem, prompt)
            show_download("Python script", script, f"{stem}.py", key=f"script_{stem}")
        if not no_weights:
            weights = partial(zip_baked_model, loaded.ref, get_store(), files)
            show_download("Edited model (zip)", weights, f"{stem}-model.zip", key=f"weights_{stem}")
        offer_saving(loaded, files, stem)
    for what, why in (("script", no_script), ("edited weights", no_weights)):
        if why:
            st.caption(f"No {what}: {escape_text(why)}.")
