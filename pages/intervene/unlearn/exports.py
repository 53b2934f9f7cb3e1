"""What to take away of unlearning: recipe, script, weights, numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import streamlit as st

from analysis.opening.models import LoadedModel
from pages.intervene.unlearn.sentences import method_name
from pages.shared.errors import shown_errors
from pages.shared.layout import download, page_link, short
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.findings.findings import all_tags, keep_unlearning
from workbench.unlearning.checks import fresh_prompt
from workbench.unlearning.exports import baked_zip, recipe_zip, script_of, why_no_script, why_no_weights
from workbench.unlearning.unlearning import Question, Unlearned

Files = Mapping[str, bytes]
_KEPT = "_kept_unlearning"


def take_away(
    loaded: LoadedModel, question: Question, found: Unlearned, recipes: Mapping[str, Files]
) -> None:
    """The numbers as JSON, and every method's change in each form that is exact."""
    st.subheader("Take away", anchor=False)
    numbers = json.dumps(found.document, indent=1, ensure_ascii=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
            _keep_form(loaded, question, found)
        download("Results as JSON", numbers, f"unlearn-{found.run[:8]}.json", key="unlearn_json")
    prompt = fresh_prompt(question)
    for one in found.document["methods"]:
        stem = f"{one['method']}-{found.run[:8]}"
        st.markdown(f"**{plain(method_name(one))}**")
        offer_change(loaded, recipes[one["method"]], stem, prompt)
    st.caption(
        "A recipe is a JSON document with a safetensors file beside it: "
        "`generate MODEL --prompt TEXT --recipe FILE.json` applies it. The script reads the two beside it."
    )


def _keep_form(loaded: LoadedModel, question: Question, found: Unlearned) -> None:
    with st.form("keep_unlearning", border=False):
        title = st.text_input("Title", f"Forget {question.forget.name} in {short(loaded.ref.name)}")
        note = st.text_area("Note", placeholder="What it shows, and what would speak against it")
        tags = st.multiselect("Tags", list(all_tags(store())), accept_new_options=True)
        pressed = st.form_submit_button("Keep", type="primary")
    if pressed:
        with shown_errors():
            kept = keep_unlearning(loaded, store(), question, found, title=title, note=note, tags=tags)
            st.session_state[_KEPT] = (found.run, kept.id)
            st.toast(f"Kept: {plain(kept.title)}", icon=":material/bookmark_added:")
    run, finding_id = st.session_state.get(_KEPT, (None, None))
    if run == found.run:
        page_link("Open the finding you kept", "/findings", icon=":material/bookmark:", finding=finding_id)


def offer_change(loaded: LoadedModel, files: Files, stem: str, prompt: str) -> None:
    """One change as a recipe, a script and whole weights; in place of what cannot be had, why."""
    no_script, no_weights = why_no_script(files), why_no_weights(loaded, files)
    with st.container(horizontal=True):
        download("Recipe (zip)", partial(recipe_zip, files, stem), f"{stem}.zip", key=f"recipe_{stem}")
        if not no_script:
            script = partial(script_of, loaded, files, stem, prompt)
            download("Python script", script, f"{stem}.py", key=f"script_{stem}")
        if not no_weights:
            weights = partial(baked_zip, loaded.ref, store(), files)
            download("Edited model (zip)", weights, f"{stem}-model.zip", key=f"weights_{stem}")
    for what, why in (("script", no_script), ("edited weights", no_weights)):
        if why:
            st.caption(f"No {what}: {plain(why)}.")
