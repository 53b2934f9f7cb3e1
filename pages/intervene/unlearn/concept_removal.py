"""TARS on a page: a concept and prompts that lead to it; which vectors were turned round, and what it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from analysis.unlearning.edits.tars import MOST_EDITS, NOISE, THRESHOLD
from pages.intervene.unlearn.asking import answer_under
from pages.intervene.unlearn.exports import offer_change
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.jobs.waiting import ask_for, finished, has_failed, is_under_way
from pages.shared.layout import caption, download, empty, method
from pages.shared.pair import percent
from pages.shared.resources import store
from pages.shared.tokens import plain, show_token
from workbench.files import table_csv
from workbench.kinds import make_order
from workbench.unlearning.tars import TARS, Concept, StoredRemoval, check_concept, stored_removal

Document = Mapping[str, Any]
LAST_SEED, MOST_NEW_TOKENS = 2**53 - 1, 40
WHY = "The concept is aimed at, vectors that point at it are chosen, and the edit is measured."
PAPER = "Targeted angular reversal: Davies 2024, arXiv 2412.10257. Noise and threshold are unpublished: ours"
METHOD = r"""
$v_0$ is the residual stream after the last block, at the end of the prompt that says the concept best.
Random perturbations that raise $P(\text{concept})$ through the final norm and the head refine it to $v^*$. Of
all vectors that act on the residual stream (up, gate, down, rows of the head) those with the largest cosine
with $v^*$ are turned round: $w \leftarrow -\lVert w \rVert\, v^* / \lVert v^* \rVert$. The edit is for good
and sits in the weights, whatever is read.
"""


def concept_section(loaded: LoadedModel) -> None:
    """The form, the job, and what came of it."""
    asked, pressed = _asked()
    method("How this works", METHOD, PAPER)
    if not asked.concept or not asked.prompts:
        empty(
            "Type a concept, one word such as *dog*, and a few prompts that the model would go on with it, "
            "one a line. **Remove it** turns round the vectors that point at it, and measures what that did."
        )
        return
    found = stored_removal(loaded, store(), asked)
    if found is None:
        found = _removed(loaded, asked, pressed=pressed)
    if found is not None:
        _results(loaded, asked, found)


def _asked() -> tuple[Concept, bool]:
    with st.form("concept-settings"):
        first, second = st.columns([2, 5])
        concept = first.text_input(
            "Concept",
            key=state.CONCEPT,
            bind="query-params",
            help="A word that is one token; its forms count too.",
        )
        prompts = second.text_area(
            "Prompts that lead to it, one a line", key=state.LEADS, bind="query-params", height=100
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
    return Concept((concept or "").strip(), lines, **how), pressed  # type: ignore[arg-type]


def _removed(loaded: LoadedModel, asked: Concept, *, pressed: bool) -> StoredRemoval | None:
    order = make_order(TARS, loaded.ref, **asked.document())
    with shown_errors():
        if pressed and not is_under_way(order):
            check_concept(loaded, asked)
            ask_for(order)
        if not is_under_way(order) and not has_failed(order):
            empty(f"Everything is filled in. **Remove it** takes {plain(asked.concept)} out.")
        elif finished(order, WHY):
            return stored_removal(loaded, store(), asked)
    return None


def _results(loaded: LoadedModel, asked: Concept, found: StoredRemoval) -> None:
    document = found.document
    said, kl = document["probability"], document["kl"]
    with st.container(horizontal=True):
        label = f"P({plain(show_token(asked.concept))})"
        st.metric(f"{label} as the model is", percent(said["before"]), border=True)
        st.metric(f"{label} without it", percent(said["after"]), border=True)
        st.metric(
            "Median KL on other text (nats)",
            "–" if kl["median"] is None else f"{kl['median']:.3g}",
            border=True,
        )
        st.metric("P at the aim", percent(document["target"]), border=True)
    caption(
        f"P: mean over your {len(asked.prompts)} prompts, of every form of the word. KL: of the next token's "
        f"distribution, at {kl['n']:,} places of the reference text where the word was not the likeliest."
    )
    _edits(loaded, document)
    st.subheader("Take away", anchor=False)
    numbers = json.dumps(document, indent=1, ensure_ascii=False)
    download("Results as JSON", numbers, f"tars-{found.run[:8]}.json", key="tars_json")
    offer_change(loaded, found.files, f"tars-{found.run[:8]}", asked.prompts[0])
    st.subheader("Ask it something", anchor=False)
    with st.form("concept-ask"):
        prompt = st.text_area("Prompt", asked.prompts[0], key=state.ASK, bind="query-params", height=80)
        pressed = st.form_submit_button("Ask")
    answer_under(loaded, found.files, prompt, MOST_NEW_TOKENS, key=found.run, pressed=pressed)


def _edits(loaded: LoadedModel, document: Document) -> None:
    rows = [_row(loaded, edit) for edit in document["edits"]]
    st.subheader("Vectors turned round", anchor=False)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "open": st.column_config.LinkColumn("open", display_text="on Neurons"),
            "cosine": st.column_config.NumberColumn("cosine", format="%.4f"),
        },
    )
    caption(
        "Best aligned with the concept first. up and gate: what the neuron reads; down: what it writes; "
        "head: a token's row of the LM head."
    )
    names = ["address", "vector", "cosine"]
    table = table_csv(names, ([edit[name] for name in names] for edit in document["edits"]))
    download("Vectors as CSV", table, "tars-vectors.csv", key="tars_csv")


def _row(loaded: LoadedModel, edit: Document) -> dict[str, object]:
    """A vector with a link to its neuron; of a row of the head the token, and who writes it."""
    address = str(edit["address"])
    token, link = "", state.link("/neurons", neuron=address)
    if edit["vector"] == "head":
        text = loaded.vocabulary.texts[int(address.removeprefix("head.T"))]
        token, link = show_token(text), state.link("/neurons", word=text.strip())
    return {
        "address": address,
        "vector": edit["vector"],
        "token": token,
        "cosine": edit["cosine"],
        "open": link,
    }
