"""TARS panel: a concept and prompts that lead to it; the reversed vectors, and their effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD
from pages.intervene.unlearn.asking import show_answers_under
from pages.intervene.unlearn.exports import offer_change
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.jobs.waiting import ensure_done, has_failed, is_under_way, request_order
from pages.shared.layout import show_caption, show_download, show_empty, show_method
from pages.shared.pair import format_percent
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text, show_token
from workbench.files import table_csv
from workbench.kinds import make_order
from workbench.unlearning.tars import TARS, ConceptQuestion, StoredRemoval, check_concept, find_removal

Document = Mapping[str, Any]
LAST_SEED, MOST_NEW_TOKENS = 2**53 - 1, 40
WHY = "The job aims at the concept, chooses the vectors that point at it, and measures the edit."
PAPER = (
    "Targeted angular reversal: Davies 2024, arXiv 2412.10257. Noise and threshold are unpublished; "
    "these are ours"
)
METHOD = r"""
$v_0$ is the residual stream after the last block, at the end of the prompt with the largest P(concept).
Random perturbations that raise $P(\text{concept})$ through the final norm and the head refine it to $v^*$. Of
all vectors that act on the residual stream (up, gate, down, rows of the head) those with the largest cosine
with $v^*$ are reversed: $w \leftarrow -\lVert w \rVert\, v^* / \lVert v^* \rVert$. The edit changes
the weights, independent of the input.
"""


def show_concept_removal(loaded: LoadedModel) -> None:
    """The form, the job, and the results."""
    asked, pressed = _read_question()
    show_method("How this works", METHOD, PAPER)
    if not asked.concept or not asked.prompts:
        show_empty(
            "Type a concept, one word such as *dog*, and a few prompts that the model would continue with "
            "it, "
            "one per line. **Remove it** reverses the vectors that point at it, and measures the effect."
        )
        return
    found = find_removal(loaded, get_store(), asked)
    if found is None:
        found = _load_removal(loaded, asked, pressed=pressed)
    if found is not None:
        _results(loaded, asked, found)


def _read_question() -> tuple[ConceptQuestion, bool]:
    with st.form("concept-settings"):
        first, second = st.columns([2, 5])
        concept = first.text_input(
            "Concept",
            key=state.CONCEPT,
            bind="query-params",
            help="A word that is one token; its forms are included.",
        )
        prompts = second.text_area(
            "Prompts that lead to it, one per line", key=state.LEADS, bind="query-params", height=100
        )
        edits, cosine, noise, seed = st.columns(4)
        how = {
            "edits": int(
                edits.number_input("Most vectors", 1, None, MOST_EDITS, key=state.EDITS, bind="query-params")
            ),
            "threshold": round(
                float(
                    cosine.number_input(
                        "Smallest cosine", -1.0, 1.0, THRESHOLD, 0.05, key=state.COSINE, bind="query-params"
                    )
                ),
                4,
            ),
            "noise": round(
                float(
                    noise.number_input(
                        "First noise",
                        0.01,
                        10.0,
                        NOISE,
                        0.1,
                        key=state.NOISE,
                        bind="query-params",
                        help="Size of the perturbations, × the vector's own.",
                    )
                ),
                4,
            ),
            "seed": int(seed.number_input("Seed", 0, LAST_SEED, 0, key=state.SEED, bind="query-params")),
        }
        pressed = st.form_submit_button("Remove it", type="primary", icon=":material/backspace:")
    lines = tuple(line.strip() for line in (prompts or "").splitlines() if line.strip())
    return ConceptQuestion((concept or "").strip(), lines, **how), pressed  # type: ignore[arg-type]


def _load_removal(loaded: LoadedModel, asked: ConceptQuestion, *, pressed: bool) -> StoredRemoval | None:
    order = make_order(TARS, loaded.ref, **asked.document())
    with show_errors():
        if pressed and not is_under_way(order):
            check_concept(loaded, asked)
            request_order(order)
        if not is_under_way(order) and not has_failed(order):
            show_empty(f"Everything is filled in. **Remove it** removes {escape_text(asked.concept)}.")
        elif ensure_done(order, WHY):
            return find_removal(loaded, get_store(), asked)
    return None


def _results(loaded: LoadedModel, asked: ConceptQuestion, found: StoredRemoval) -> None:
    document = found.document
    said, kl = document["probability"], document["kl"]
    with st.container(horizontal=True):
        label = f"P({escape_text(show_token(asked.concept))})"
        st.metric(f"{label} base", format_percent(said["before"]), border=True)
        st.metric(f"{label} changed", format_percent(said["after"]), border=True)
        st.metric(
            "Median KL on other text (nats)",
            "–" if kl["median"] is None else f"{kl['median']:.3g}",
            border=True,
        )
        st.metric("P at the aim", format_percent(document["target"]), border=True)
    show_caption(
        f"P: mean over your {len(asked.prompts)} prompts, over every form of the word. KL: of next-token "
        f"distributions, at {kl['n']:,} positions of the reference text where the word was not the likeliest "
        "token."
    )
    _edits(loaded, document)
    st.subheader("Export", anchor=False)
    numbers = json.dumps(document, indent=1, ensure_ascii=False)
    show_download("Results as JSON", numbers, f"tars-{found.run[:8]}.json", key="tars_json")
    offer_change(loaded, found.files, f"tars-{found.run[:8]}", asked.prompts[0])
    st.subheader("Ask it something", anchor=False)
    with st.form("concept-ask"):
        prompt = st.text_area("Prompt", asked.prompts[0], key=state.ASK, bind="query-params", height=80)
        pressed = st.form_submit_button("Ask")
    show_answers_under(loaded, found.files, prompt, MOST_NEW_TOKENS, key=found.run, pressed=pressed)


def _edits(loaded: LoadedModel, document: Document) -> None:
    rows = [_row(loaded, edit) for edit in document["edits"]]
    st.subheader("Reversed vectors", anchor=False)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "open": st.column_config.LinkColumn("open", display_text="on Neurons"),
            "cosine": st.column_config.NumberColumn("cosine", format="%.4f"),
        },
    )
    show_caption(
        "Best aligned with the concept first. up and gate: what the neuron reads; down: what it writes; "
        "head: a token's row of the LM head."
    )
    names = ["address", "vector", "cosine"]
    table = table_csv(names, ([edit[name] for name in names] for edit in document["edits"]))
    show_download("Vectors as CSV", table, "tars-vectors.csv", key="tars_csv")


def _row(loaded: LoadedModel, edit: Document) -> dict[str, object]:
    """A vector with a link to its neuron; for a head row the token, and which neurons write it."""
    address = str(edit["address"])
    token, link = "", state.make_link("/neurons", neuron=address)
    if edit["vector"] == "head":
        text = loaded.vocabulary.texts[int(address.removeprefix("head.T"))]
        token, link = show_token(text), state.make_link("/neurons", word=text.strip())
    return {
        "address": address,
        "vector": edit["vector"],
        "token": token,
        "cosine": edit["cosine"],
        "open": link,
    }
