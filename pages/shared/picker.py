"""The model picker in the sidebar, and what the open model is."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.opening.models import ModelRef
from demo import REMARKS
from pages.shared import state
from pages.shared.memory import fit_line, how_to_open
from pages.shared.resources import current_ref, default_model, let_go_of, open_facts, ref_of, store
from pages.shared.tokens import plain
from pages.shared.weights import settle_weights
from workbench.models import model_choices

_PICKED = "_picked_model"
_OTHER = "_other_model"


def model_picker() -> DeltaGenerator:
    """Choose the model and how it is opened; the place under it says what it needs, and what it is once it
    is open (`show_open_model`). A model that another takes the place of gives its memory back.

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
            placeholder="Name, folder or Hub id",
            help="Type a folder or a Hub id and press Enter. Only safetensors are read, and no foreign code.",
            on_change=_pick_model,
        )
        place = st.empty()
        let_go_of("open", but=current_ref())  # so that its memory counts as free
        found = how_to_open(st.session_state[state.MODEL])
    ref = current_ref()
    if ref is not None and found is not None:
        place.caption(fit_line(ref, found))
    show_open_model(place)
    return place


def other_model(label: str) -> ModelRef | None:
    """A second model beside the open one, named in the URL; in the same dtype. None where none is chosen."""
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
    ref = ref_of(chosen) if chosen else None
    let_go_of("other", but=ref)
    return ref


def show_open_model(place: DeltaGenerator) -> None:
    """Architecture, layers, neurons, dtype, device and remark of the open model; nothing until it is open."""
    ref, facts = current_ref(), open_facts()
    if ref is None or facts is None:
        return
    counts = [f"{facts['layers']} layers", f"{facts['neurons']:,} neurons"]
    if facts["experts"]:
        counts.append(f"{facts['experts']:,} experts")
    lines = [plain(facts["architecture"]), " · ".join(counts), _precision(ref)]
    if ref.name in REMARKS:
        lines.append(REMARKS[ref.name])
    place.caption("  \n".join(lines))


def _precision(ref: ModelRef) -> str:
    return f"{ref.resolved_dtype} on {ref.device}{', read from disk' if ref.streamed else ''}"


def _settle_model() -> None:
    """The model is what the URL names, else what was open before, else the default; then the URL says so."""
    named = st.query_params.get(state.MODEL)
    chosen = st.session_state.get(state.MODEL, default_model() or "") if named is None else named
    st.session_state[state.MODEL] = chosen
    st.session_state[_PICKED] = chosen or None
    if chosen and named != chosen:
        st.query_params[state.MODEL] = chosen
    settle_weights(chosen)


def _model_names() -> list[str]:
    names = [choice.name for choice in model_choices(store())]
    chosen = st.session_state[_PICKED]
    return names if chosen is None or chosen in names else [*names, chosen]


def _pick_model() -> None:
    picked = (st.session_state[_PICKED] or "").strip()
    st.session_state[state.MODEL] = picked
    st.query_params[state.MODEL] = picked
    st.session_state.pop(state.REVISION, None)  # which was of the model before, as was this:
    st.query_params.pop(state.WEIGHTS, None)
