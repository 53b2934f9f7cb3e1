"""What every page needs: the store, its background work, and the model that is open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import streamlit as st

from analysis.errors import NotFetched
from analysis.models import LoadedModel, ModelRef, settled
from demo import BUNDLED
from pages.shared import state
from pages.shared.layout import empty
from pages.shared.tokens import plain
from pages.shared.weights import offer_shards, take_from_disk, tell_not_run, weights_of
from workbench.jobs import Jobs
from workbench.models import fit_of, model_facts, opened
from workbench.storage import Store, open_store

FIRST_MODEL = "demo/base"
_OPEN = "_open_model"
_FETCH = "_fetch_allowed"
_ANYWAY = "_opened_whatever_it_takes"


def store() -> Store:
    """The one store, shared by all sessions."""
    return _store(os.environ.get("HEADLAMP_DB", ""))


@st.cache_resource(show_spinner=False)
def _store(named: str) -> Store:
    """One store per file that HEADLAMP_DB has named in this process."""
    return open_store()


def jobs() -> Jobs:
    """The background work on the store, shared by all sessions."""
    return _jobs(store(), str(store().path))


@st.cache_resource(show_spinner=False)
def _jobs(_store: Store, path: str) -> Jobs:
    """One queue per file, however it was named: it outlives every page and window."""
    return Jobs(_store)


def default_model() -> str | None:
    """The model a first visit opens: HEADLAMP_MODEL, else the bundled demo/base, else none."""
    return os.environ.get("HEADLAMP_MODEL") or (FIRST_MODEL if FIRST_MODEL in BUNDLED else None)


def current_ref() -> ModelRef | None:
    """The model the URL and the sidebar name; None where none is chosen."""
    name = str(st.session_state.get(state.MODEL) or "").strip()
    if not name:
        return None
    dtype = st.session_state.get(state.DTYPE) or "auto"
    return settled(ModelRef(name, device="auto", dtype=dtype, **weights_of(name)))


@contextmanager
def model(other: ModelRef | None = None, *, runs: str = "") -> Iterator[LoadedModel]:
    """The open model while the body runs, or another one. Without a choice the page says how to make one, and
    stops there.

    A model that would have to be fetched is fetched only when somebody says so: a link alone never downloads.
    runs: what needs the model to run, if anything does; where its weights stay on disk, the page says so and
    stops.
    """
    ref = current_ref() if other is None else other
    if ref is None:
        _no_model()
        st.stop()
    if runs and ref.streamed:
        tell_not_run(ref, runs)
        st.stop()
    _stop_if_too_large(ref)
    allowed = ref.name in st.session_state.get(_FETCH, ())
    with ExitStack() as stack:
        try:
            with st.spinner(f"Opening {plain(ref.name)} …", show_time=True):
                loaded = stack.enter_context(opened(ref, store(), fetch=allowed))
        except NotFetched as missing:
            _ask_to_fetch(ref.name, str(missing))
            st.stop()
        if other is None and open_facts() is None:
            st.session_state[_OPEN] = (ref, model_facts(loaded))
        yield loaded


def _stop_if_too_large(ref: ModelRef) -> None:
    """A model that does not fit is not opened before somebody says so; the page offers what would work."""
    found = None if ref.streamed else fit_of(ref)
    if found is None or found.verdict == "load" or ref in st.session_state.get(_ANYWAY, ()):
        return
    what = f"{plain(ref.name)} does not fit into memory as {plain(ref.resolved_dtype)}."
    st.warning(f"**{what}** {plain(found.reason)}.", icon=":material/memory_alt:")
    with st.container(horizontal=True):
        in_half = found.verdict == "load in bfloat16"
        if in_half:
            st.button("Open it in bfloat16", type="primary", on_click=_take_dtype, args=("bfloat16",))
        if found.verdict != "too large":
            st.button(
                "Decode from disk",
                type="secondary" if in_half else "primary",
                on_click=take_from_disk,
                args=(ref.name,),
            )
        st.button("Open it anyway", on_click=_open_anyway, args=(ref,))
    if found.verdict != "too large":
        st.caption(
            "From disk, layer by layer, its neurons can be decoded, searched and compared all the same, but "
            "it cannot be run: no clamps, no activations. In a terminal:"
        )
        st.code(f"python -m workbench decode {ref.name} --from-disk", language="sh")
    st.stop()


def _take_dtype(dtype: str) -> None:
    st.session_state[state.DTYPE] = dtype


def _open_anyway(ref: ModelRef) -> None:
    st.session_state[_ANYWAY] = {*st.session_state.get(_ANYWAY, ()), ref}


def open_facts() -> dict[str, Any] | None:
    """What is known of the current model once it was opened in this session."""
    ref, facts = st.session_state.get(_OPEN, (None, None))
    return facts if ref is not None and ref == current_ref() else None


def _no_model() -> None:
    empty(
        "No model is open. Choose one at the left under **Model**: a bundled one, a folder that holds "
        "`config.json`, a tokenizer and `*.safetensors`, or a Hub id such as `EleutherAI/pythia-70m`. "
        "`HEADLAMP_MODEL` names the one that opens first."
    )


def _ask_to_fetch(name: str, why: str) -> None:
    empty(
        f"{plain(why)}.  \nWhat is fetched from the Hugging Face Hub: weights as safetensors, configuration "
        "and tokenizer; no code. A model that is too large for this machine can be decoded shard by shard."
    )
    st.button(
        "Fetch it from the Hub",
        type="primary",
        icon=":material/download:",
        on_click=_allow_fetch,
        args=(name,),
    )
    offer_shards(name)


def _allow_fetch(name: str) -> None:
    st.session_state[_FETCH] = {*st.session_state.get(_FETCH, ()), name}
