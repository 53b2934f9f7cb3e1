"""Models whose weights stay on disk: the choice, its place in the URL, and what they cannot do."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.opening.models import ModelRef, Shards, resolve_ref
from pages.shared import state
from pages.shared.layout import shorten_model
from pages.shared.tokens import escape_text

DISK = "disk"
_DELETE = "_delete_shards"
_CHOSEN = "_from_disk"
"""Model → whether its shards may be fetched; per session, since a link alone never downloads."""


def read_weights_choice(name: str) -> dict[str, Any]:
    """The part of a model's ModelRef about its weights, as chosen in this session."""
    shards = st.session_state.get(_CHOSEN, {}).get(_whole_name(name))
    return {} if shards is None else {"streamed": True, "shards": shards}


def settle_weights(name: str) -> None:
    """Keep the open model's weights on disk if URL or session say so; then update both."""
    if name and st.query_params.get(state.WEIGHTS) == DISK and not read_weights_choice(name):
        choose_disk(name)
    from_disk = bool(name and read_weights_choice(name))
    st.session_state[state.WEIGHTS] = DISK if from_disk else None
    if from_disk:
        st.query_params[state.WEIGHTS] = DISK
    else:
        st.query_params.pop(state.WEIGHTS, None)


def choose_disk(name: str, shards: Shards = "local") -> None:
    """Leave a model's weights on disk from now on."""
    st.session_state[_CHOSEN] = {**st.session_state.get(_CHOSEN, {}), _whole_name(name): shards}


def choose_memory(name: str) -> None:
    """Load a model into memory from now on."""
    chosen = st.session_state.get(_CHOSEN, {})
    st.session_state[_CHOSEN] = {k: v for k, v in chosen.items() if k != _whole_name(name)}
    st.query_params.pop(state.WEIGHTS, None)


def explain_not_run(ref: ModelRef, what: str) -> None:
    """Why a model whose weights stay on disk cannot be run, and what to do. what: begins the sentence."""
    st.info(
        f"{what} runs the model, which needs all its weights in memory, but those of "
        f"{escape_text(shorten_model(ref.name))} stay on disk, which only allows decoding: open it in "
        "memory, in bfloat16 if "
        "necessary, or on a machine with more memory.",
        icon=":material/memory_alt:",
    )
    st.button("Open it in memory", on_click=choose_memory, args=(ref.name,))


def offer_shards(name: str) -> None:
    """The button that decodes a Hub model without downloading all of it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Decode it from disk, shard by shard",
            icon=":material/hard_drive:",
            on_click=_take_shards,
            args=(name,),
        )
        st.toggle(
            "Delete each shard after use",
            key=_DELETE,
            help="The disk then holds about two shards at a time, and each further site is fetched again. "
            "Searching a word needs shards that are kept.",
        )


def _take_shards(name: str) -> None:
    choose_disk(name, "delete" if st.session_state[_DELETE] else "keep")


def _whole_name(name: str) -> str:
    return resolve_ref(ModelRef(name)).name
