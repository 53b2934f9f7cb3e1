"""Results of a removed concept: the verdict, P(concept) prompt by prompt, the cost, the vectors, exports."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from pages.intervene.unlearn.asking import show_answers_under
from pages.intervene.unlearn.exports import offer_change
from pages.shared import state
from pages.shared.layout import show_caption, show_download
from pages.shared.pair import format_percent
from pages.shared.tokens import escape_text, show_token
from workbench.files import table_csv
from workbench.unlearning.concepts.answers import ConceptAnswer, EarlierRemoval, ReversedVector
from workbench.unlearning.concepts.questions import ConceptQuestion
from workbench.unlearning.concepts.tars import StoredRemoval

MOST_NEW_TOKENS = 40
KL_COLUMNS = ("median", "95th percentile", "largest")
_SHORT = st.column_config.NumberColumn(format="%.2g")
SPLITS = {"aimed": "aimed with", "held_out": "held out", "languages": "other language"}


def show_removal(loaded: LoadedModel, asked: ConceptQuestion, found: StoredRemoval) -> None:
    """A stored removal of one concept."""
    if isinstance(found.answer, EarlierRemoval):
        _show_earlier(asked, found.answer)
    else:
        (one,) = found.answer.concepts
        show = st.error if not one.holds else st.success if one.by_neurons else st.warning
        show(escape_text(found.answer.verdict))
        _show_numbers(one)
        _show_prompts(one)
    _show_vectors(loaded, found.edits)
    _show_exports(loaded, asked, found)


def _show_earlier(asked: ConceptQuestion, found: EarlierRemoval) -> None:
    """A removal as version 1 measured it: behind the prompt, and on raw text alone."""
    st.warning(
        "An earlier version measured this behind the prompt, which on a chat model is the first token of its "
        "answer. **Remove it** measures it where the answer says the concept.",
        icon=":material/history:",
    )
    with st.container(horizontal=True):
        label = f"P({escape_text(show_token(asked.concepts[0].word))})"
        st.metric(f"{label} base", format_percent(found.probability.before), border=True)
        st.metric(f"{label} changed", format_percent(found.probability.after), border=True)
        st.metric("Median KL on other text (nats)", _format_kl(found.kl.median), border=True)
        st.metric("P at the aim", format_percent(found.target), border=True)


def _show_numbers(one: ConceptAnswer) -> None:
    chat, raw = one.effects.chat, one.effects.raw
    with st.container(horizontal=True):
        label = f"P({escape_text(show_token(one.concept))})"
        st.metric(f"{label} base", format_percent(one.before), border=True)
        st.metric(f"{label} changed", format_percent(one.after), border=True)
        st.metric(f"{label} head row zeroed", format_percent(one.after_zeroed), border=True)
        st.metric("Median KL in chats (nats)", _format_kl(None if chat is None else chat.median), border=True)
        st.metric("Median KL on raw text (nats)", _format_kl(raw.median), border=True)
        st.metric("Unrelated answers unchanged", f"{one.effects.unchanged:.0%}", border=True)
    rows = [
        {
            "change": name,
            "text": kind,
            "median": kl.median,
            "95th percentile": kl.p95,
            "largest": kl.largest,
        }
        for name, effects in (("reversed vectors", one.effects), ("head row zeroed", one.zeroed))
        for kind, kl in (("chat", effects.chat), ("raw", effects.raw))
        if kl is not None
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=dict.fromkeys(KL_COLUMNS, _SHORT))
    show_caption(
        f"KL in nats between next-token distributions, base and changed, on {raw.n} texts each: median "
        "and 95th percentile of a text's mean, largest at any one position. P: mean over the prompts aimed "
        "with, where the model's own answer says the word."
    )


def _show_prompts(one: ConceptAnswer) -> None:
    st.subheader("Prompt by prompt", anchor=False)
    rows = [
        {
            "prompt": p.prompt,
            "which": SPLITS[p.split],
            "P base": p.before,
            "P changed": p.after,
            "head row zeroed": p.zeroed,
            "counts": p.counted,
            "still says": p.says,
            "answer now": p.answer,
        }
        for p in one.prompts
    ]
    chances = ("P base", "P changed", "head row zeroed")
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=dict.fromkeys(chances, _SHORT))
    show_caption(
        "A wording counts where the model said the concept with P of at least .3 before. *Still says*: the "
        "word, spelled out or not, or a synonym, in the answer of the changed model."
    )


def _show_exports(loaded: LoadedModel, asked: ConceptQuestion, found: StoredRemoval) -> None:
    st.subheader("Export", anchor=False)
    numbers = json.dumps(found.answer.to_document(), indent=1, ensure_ascii=False)
    show_download("Results as JSON", numbers, f"tars-{found.run[:8]}.json", key="tars_json")
    first = asked.concepts[0].prompts[0].prompt
    offer_change(loaded, found.files, f"tars-{found.run[:8]}", first)
    st.subheader("Ask it something", anchor=False)
    with st.form("concept-ask"):
        prompt = st.text_area("Prompt", first, key=state.ASK, bind="query-params", height=80)
        pressed = st.form_submit_button("Ask")
    show_answers_under(loaded, found.files, prompt, MOST_NEW_TOKENS, key=found.run, pressed=pressed)


def _show_vectors(loaded: LoadedModel, edits: Sequence[ReversedVector]) -> None:
    st.subheader("Reversed vectors", anchor=False)
    st.dataframe(
        pd.DataFrame([_row(loaded, edit) for edit in edits]),
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
    table = table_csv(names, ([edit.address, edit.vector, edit.cosine] for edit in edits))
    show_download("Vectors as CSV", table, "tars-vectors.csv", key="tars_csv")


def _row(loaded: LoadedModel, edit: ReversedVector) -> dict[str, object]:
    """A vector with a link to its neuron; for a head row the token, and which neurons write it."""
    token, link = "", state.make_link("/neurons", neuron=edit.address)
    if edit.vector == "head":
        text = loaded.vocabulary.texts[int(edit.address.removeprefix("head.T"))]
        token, link = show_token(text), state.make_link("/neurons", word=text.strip())
    return {
        "address": edit.address,
        "vector": edit.vector,
        "token": token,
        "cosine": edit.cosine,
        "open": link,
    }


def _format_kl(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
