"""The model picker in the sidebar, and facts about the open model."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.opening.models import ModelRef
from demo import REMARKS
from pages.shared import state
from pages.shared.memory import choose_opening, describe_fit
from pages.shared.resources import (
    get_store,
    make_ref,
    read_current_ref,
    read_default_model,
    read_open_facts,
    release_other,
)
from pages.shared.tokens import escape_text
from pages.shared.weights import settle_weights
from workbench.models import list_model_choices

_PICKED = "_picked_model"
_OTHER = "_other_model"


def pick_model() -> DeltaGenerator:
    """Choose the model and how it is opened; the placeholder below shows its memory needs, and its facts once
    it is open (`show_open_model`). A replaced model's memory is released.

    The URL always names the model, the default one too, so that a pasted link opens the same everywhere.
    """
    _settle_model()
    with st.sidebar:
        st.selectbox(
            "Model",
            _model_names(),
            index=None,
            key=_PICKED,
            accept_new_options=True,
            placeholder="Name, folder, .gguf file or Hub id",
            help="Type a folder, a GGUF file, a Hub id or ORG/NAME:FILE.gguf, and press Enter; +ADAPTER "
            "behind it merges a LoRA adapter, a folder or a Hub id. Only safetensors and GGUF are read, and "
            "no custom code is run.",
            on_change=_pick_model,
        )
        place = st.empty()
        release_other("open", but=read_current_ref())  # so that its memory counts as free
        found = choose_opening(st.session_state[state.MODEL])
    ref = read_current_ref()
    if ref is not None and found is not None:
        place.caption(describe_fit(ref, found))
    show_open_model(place)
    return place


def pick_other_model(label: str) -> ModelRef | None:
    """A second model beside the open one, named in the URL; same dtype. None if none is chosen."""
    names = [name for name in _model_names() if name != st.session_state.get(state.MODEL)]
    given = st.query_params.get(state.OTHER)
    st.session_state[_OTHER] = given or None

    def pick() -> None:
        st.query_params[state.OTHER] = (st.session_state[_OTHER] or "").strip()

    chosen = st.selectbox(
        label,
        names if given is None or given in names else [*names, given],
        index=None,
        key=_OTHER,
        accept_new_options=True,
        placeholder="Name, folder or Hub id",
        on_change=pick,
    )
    ref = make_ref(chosen) if chosen else None
    release_other("other", but=ref)
    return ref


def show_open_model(place: DeltaGenerator) -> None:
    """Architecture, layers, neurons, dtype, device and caveats of the open model; empty until it is open."""
    ref, facts = read_current_ref(), read_open_facts()
    if ref is None or facts is None:
        return
    counts = [f"{facts.layers} layers", f"{facts.neurons:,} neurons"]
    if facts.experts:
        counts.append(f"{facts.experts:,} experts")
    lines = [escape_text(facts.architecture), " · ".join(counts), _precision(ref)]
    if facts.weights:
        lines.append(escape_text(facts.weights))
    lines += [escape_text(note) for note in facts.notes]
    if ref.name in REMARKS:
        lines.append(REMARKS[ref.name])
    place.caption("  \n".join(lines))


def _precision(ref: ModelRef) -> str:
    return f"{ref.resolved_dtype} on {ref.device}{', read from disk' if ref.streamed else ''}"


def _settle_model() -> None:
    """The model named by the URL, else the one open before, else the default; then the URL is updated."""
    named = st.query_params.get(state.MODEL)
    chosen = st.session_state.get(state.MODEL, read_default_model() or "") if named is None else named
    st.session_state[state.MODEL] = chosen
    st.session_state[_PICKED] = chosen or None
    if chosen and named != chosen:
        st.query_params[state.MODEL] = chosen
    settle_weights(chosen)


def _model_names() -> list[str]:
    names = [choice.name for choice in list_model_choices(get_store())]
    chosen = st.session_state[_PICKED]
    return names if chosen is None or chosen in names else [*names, chosen]


def _pick_model() -> None:
    picked = (st.session_state[_PICKED] or "").strip()
    st.session_state[state.MODEL] = picked
    st.query_params[state.MODEL] = picked
    st.session_state.pop(state.REVISION, None)  # which belonged to the previous model, as did this:
    st.query_params.pop(state.WEIGHTS, None)
