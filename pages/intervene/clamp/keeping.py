"""Exports of a pair of texts: finding, recipe, script, link."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.running.conversations import write_turns
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import show_download, show_page_link
from pages.shared.resources import get_store
from pages.shared.saving.form import offer_saving
from pages.shared.tokens import escape_text
from store.phrases import describe_changes
from workbench.findings.findings import all_tags, keep_generation
from workbench.generating.clamping import Generation
from workbench.generating.pair_verdicts import describe_word_change
from workbench.generating.snippets import why_no_snippet, write_snippet

TITLE_PROMPT = 40
"""Characters of the prompt in a proposed title."""

_KEPT = "_kept_finding"


def offer_pair_exports(loaded: LoadedModel, result: Generation) -> None:
    """Keep the pair as a finding, export it, share it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Keep as a finding", icon=":material/bookmark_add:"):
            _keep_form(loaded, result)
        with st.popover("Share", icon=":material/link:"):
            st.caption("This URL opens the same view, also on another machine with this model.")
            st.code(read_origin() + make_clamp_link(result), language=None, wrap_lines=True)
        recipe = json.dumps(result.recipe, indent=1, ensure_ascii=False)
        show_download("Recipe as JSON", recipe, f"recipe-{result.run[:8]}.json", key="recipe")
        offer_saving(loaded, {"recipe.json": recipe.encode()}, result.run[:8])


def _keep_form(loaded: LoadedModel, result: Generation) -> None:
    with st.form("keep", border=False):
        title = st.text_input("Title", propose_title(result))
        note = st.text_area("Note", placeholder="What it shows, and what would contradict it")
        tags = st.multiselect(
            "Tags", list(all_tags(get_store())), accept_new_options=True, placeholder="Choose or type"
        )
        pressed = st.form_submit_button("Keep", type="primary")
    if pressed:
        with show_errors():
            finding = keep_generation(loaded, get_store(), result, title=title, note=note, tags=tags)
            st.session_state[_KEPT] = (result.run, finding.id)
            st.toast(f"Kept: {escape_text(finding.title)}", icon=":material/bookmark_added:")
    kept, finding_id = st.session_state.get(_KEPT, (None, None))
    if kept == result.run:
        show_page_link(
            "Open the finding you kept", "/findings", icon=":material/bookmark:", finding=finding_id
        )


def propose_title(result: Generation) -> str:
    """`Holding L29.N808 at 2.83 × residual: dog 0.5 % → 93 % on “My favourite animal is the”`."""
    prompt = " ".join(f"{result.request.prompt} {result.request.answer_prefix}".split())
    shown = f"…{prompt[-TITLE_PROMPT:]}" if len(prompt) > TITLE_PROMPT else prompt
    word = describe_word_change(result)
    return f"{describe_changes(list(map(str, result.request.clamps)))}{word and f': {word}'} on “{shown}”"


def make_clamp_link(result: Generation) -> str:
    """The Clamp page's URL with everything of this pair filled in."""
    request = result.request
    return state.make_link(
        "/clamp",
        **{
            state.CLAMPS: state.SEPARATOR.join(str(clamp) for clamp in request.clamps),
            state.PROMPT: request.prompt,
            state.PREFIX: request.answer_prefix,
            state.SYSTEM: request.system,
            state.TURNS: write_turns(request.turns),
            state.RAW: "true" if request.raw else "",
            state.WORD: request.word,
            state.FOLD: "true" if request.fold_case else "",
            state.TOKENS: request.sampling.max_new_tokens,
            state.TEMPERATURE: f"{request.sampling.temperature:g}",
            state.SEED: request.sampling.seed,
        },
    )


def read_origin() -> str:
    """`http://127.0.0.1:8501`, as the browser sees this app; empty if unknown."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def show_script(loaded: LoadedModel, result: Generation) -> None:
    """The pair as plain Python; for a routed expert, why there is none."""
    with st.expander("As a Python script", icon=":material/code:"):
        reason = why_no_snippet(loaded, result.request.clamps, result.request.sampling)
        if reason:
            st.markdown(escape_text(reason))
            return
        st.caption("Needs only torch and transformers, and generates both texts token for token.")
        st.code(write_snippet(loaded, result), language="python", height=320)
