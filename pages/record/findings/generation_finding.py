"""Findings of a pair of texts and of a neuron; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from pages.shared import state
from pages.shared.layout import show_page_link
from pages.shared.links.stored import StoredGeneration
from pages.shared.pair import HOW_TO_READ, place_pair, show_answers, show_pair, show_word, split_words
from pages.shared.tokens import escape_text, show_token
from store.evidence import DecodedTokens, EvidenceView
from workbench.records import read_odd_record

_AVATARS = {"System": ":material/settings:", "User": ":material/person:"}


def open_generation(evidence: Mapping[str, Any], shown: EvidenceView, model_name: str) -> None:
    """A link to the same pair on the page Clamp."""
    view = make_clamp_view(evidence, shown)
    show_page_link("Open in Clamp", "/clamp", icon=":material/tune:", **{**view, state.MODEL: model_name})


def make_clamp_view(evidence: Mapping[str, Any], shown: EvidenceView) -> dict[str, Any]:
    """The Clamp page's URL with everything of this evidence filled in."""
    asked = read_odd_record(StoredGeneration, evidence)
    prefix = asked.answer_prefix or ""
    wanted = {
        state.CLAMPS: state.SEPARATOR.join(shown.clamps),
        state.PROMPT: shown.prompt.removesuffix(prefix),
        state.PREFIX: prefix,
        state.SYSTEM: shown.system or None,
        state.TURNS: shown.turns or None,
        state.RAW: "true" if asked.raw else None,
        state.WORD: shown.word,
        state.FOLD: "true" if asked.fold_case else None,
        state.TOKENS: asked.max_new_tokens,
        state.TEMPERATURE: asked.temperature,
        state.SEED: shown.seed,
    }
    return {key: value for key, value in wanted.items() if isinstance(value, str | int | float)}


def show_generation(finding_id: str, shown: EvidenceView) -> None:
    """P(word) before and after, the conversation turn by turn, both texts, and the answer position."""
    if shown.word and shown.word_base is not None and shown.word_changed is not None:
        show_word(shown.word, shown.word_base, shown.word_changed)
    for speaker, text in shown.conversation:
        with st.chat_message(
            speaker.lower() if speaker == "User" else "assistant", avatar=_AVATARS.get(speaker)
        ):
            st.markdown(f"**{escape_text(speaker)}**")
            st.text(text)
    if shown.conversation:
        st.markdown("**Assistant**, in either text:")
    texts = split_words(shown.base_text), split_words(shown.changed_text)
    show_pair(place_pair(), *texts, before=shown.opening)
    st.caption(HOW_TO_READ)
    if shown.answer:
        show_answers(shown.answer, name=finding_id[:8])
    with st.expander("Clamps, as they are typed", icon=":material/tune:"):
        st.code("\n".join(shown.clamps) or "none", language=None)


def show_neuron_finding(shown: EvidenceView) -> None:
    """The tokens of a neuron at each site."""
    st.markdown(f"**Neuron** {escape_text(shown.address)}")
    for place, table in zip(st.columns(2) * len(shown.sites), shown.sites, strict=False):
        with place:
            _show_decodings(table)


def _show_decodings(table: DecodedTokens) -> None:
    st.markdown(f"{escape_text(table.site)}, {escape_text(table.end)}")
    st.dataframe(
        {
            "token": [show_token(token) for token, _, _ in table.tokens],
            "logit": [logit for _, logit, _ in table.tokens],
            "probability": [probability for _, _, probability in table.tokens],
        },
        hide_index=True,
    )
