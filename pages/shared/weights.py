"""Models whose weights stay on disk: who chose that, how the address says so, what they cannot do."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analysis.opening.models import ModelRef, Shards, settled
from pages.shared import state
from pages.shared.layout import short
from pages.shared.tokens import plain

DISK = "disk"
_DELETE = "_delete_shards"
_CHOSEN = "_from_disk"
"""Model → whether its shards may be fetched; of this session, since a link alone never downloads."""


def weights_of(name: str) -> dict[str, Any]:
    """What a model's ModelRef says of its weights, as far as this session chose that."""
    shards = st.session_state.get(_CHOSEN, {}).get(_whole_name(name))
    return {} if shards is None else {"streamed": True, "shards": shards}


def settle_weights(name: str) -> None:
    """The open model's weights stay on disk if the address or this session says so; then both do."""
    if name and st.query_params.get(state.WEIGHTS) == DISK and not weights_of(name):
        take_from_disk(name)
    from_disk = bool(name and weights_of(name))
    st.session_state[state.WEIGHTS] = DISK if from_disk else None
    if from_disk:
        st.query_params[state.WEIGHTS] = DISK
    else:
        st.query_params.pop(state.WEIGHTS, None)


def take_from_disk(name: str, shards: Shards = "local") -> None:
    """Leave a model's weights on disk from now on."""
    st.session_state[_CHOSEN] = {**st.session_state.get(_CHOSEN, {}), _whole_name(name): shards}


def take_whole(name: str) -> None:
    """Read a model into memory from now on."""
    chosen = st.session_state.get(_CHOSEN, {})
    st.session_state[_CHOSEN] = {k: v for k, v in chosen.items() if k != _whole_name(name)}
    st.query_params.pop(state.WEIGHTS, None)


def tell_not_run(ref: ModelRef, what: str) -> None:
    """Why a model whose weights stay on disk cannot be run, and what to do. what: begins the sentence."""
    st.info(
        f"{what} runs the model, for which all its weights must be in memory, while those of "
        f"{plain(short(ref.name))} stay on disk, which serves decoding alone: open it whole, in bfloat16 if "
        "need be, or on a machine with more memory.",
        icon=":material/memory_alt:",
    )
    st.button("Open it whole", on_click=take_whole, args=(ref.name,))


def offer_shards(name: str) -> None:
    """The button that decodes a Hub model without ever having all of it here."""
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
    take_from_disk(name, "delete" if st.session_state[_DELETE] else "keep")


def _whole_name(name: str) -> str:
    return settled(ModelRef(name)).name
