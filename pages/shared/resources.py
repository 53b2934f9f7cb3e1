"""What every page needs: the store, its background work, and the model that is open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import streamlit as st

from analysis.checkpoints.devices import BALANCED
from analysis.checkpoints.hub import hub_model
from analysis.checkpoints.sources import is_hub_id
from analysis.errors import NotFetched
from analysis.opening.memory import Fit
from analysis.opening.models import LoadedModel, ModelRef, settled
from demo import BUNDLED
from pages.shared import state
from pages.shared.layout import empty
from pages.shared.tokens import plain
from pages.shared.weights import offer_shards, take_from_disk, tell_not_run, weights_of
from store import Store, open_store
from workbench.jobs.jobs import Jobs
from workbench.models import fit_of, hold, is_loaded, model_facts, opened, release

FIRST_MODEL = "demo/base"
_OPEN = "_open_model"
_FETCH = "_fetch_allowed"
_ANYWAY = "_opened_whatever_it_takes"
_HELD = "_held_models"
_ASKED = "_asked_at_the_hub"
"""Models that somebody asked the Hub about → what it said; None until it was asked."""


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
    revision = str(st.session_state.get(state.REVISION) or "").strip()
    return ref_of(name, revision) if name else None


def ref_of(name: str, revision: str = "") -> ModelRef:
    """A model as the sidebar has it opened: on its device, in its number format. revision: of a Hub id.

    One whose weights stay on disk is on the CPU, whatever the sidebar says.
    """
    device, dtype = (st.session_state.get(key) or "auto" for key in (state.DEVICE, state.DTYPE))
    weights, at = weights_of(name), revision if is_hub_id(name) and revision else None
    return settled(ModelRef(name, at, "cpu" if weights else device, dtype, **weights))


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
    allowed = (ref.name, ref.revision) in st.session_state.get(_FETCH, ())
    with ExitStack() as stack:
        try:
            with st.spinner(f"Opening {plain(ref.name)} …", show_time=True):
                loaded = stack.enter_context(opened(ref, store(), fetch=allowed))
        except NotFetched as missing:
            _ask_to_fetch(ref, str(missing))
            st.stop()
        _hold("open" if other is None else "other", ref)
        if other is None and open_facts() is None:
            st.session_state[_OPEN] = (ref, model_facts(loaded))
        yield loaded


def fit_in_context(ref: ModelRef) -> Fit | None:
    """What a model needs for the context chosen, and whether it fits; None where it is not on this machine
    and nobody said to ask the Hub.

    Raises a ModelError for a folder that is no model, and where the Hub does not answer.
    """
    asked, model = st.session_state.get(_ASKED, {}), (ref.name, ref.revision)
    if model in asked and asked[model] is None:
        asked[model] = hub_model(*model)
    return fit_of(ref, st.session_state.get(state.CONTEXT), asked.get(model))


@st.cache_resource(scope="session", show_spinner=False, on_release=release)
def _held(place: str, ref: ModelRef) -> ModelRef:
    """That this session has a model open; its memory is given back when the session ends or takes another."""
    return hold(ref)


def _hold(place: str, ref: ModelRef) -> None:
    let_go_of(place, but=ref)
    st.session_state.setdefault(_HELD, {})[place] = _held(place, ref)


def let_go_of(place: str, but: ModelRef | None = None) -> None:
    """End this session's hold on the model it had open in a place (`open`, or `other`), if it is another."""
    held = st.session_state.get(_HELD, {})
    if place in held and held[place] != but:
        _held.clear(place, held.pop(place))


def _stop_if_too_large(ref: ModelRef) -> None:
    """A model that does not fit is not opened before somebody says so; the page offers what would work."""
    if ref.streamed or is_loaded(ref) or ref in st.session_state.get(_ANYWAY, ()):
        return
    found = fit_in_context(ref)
    if found is None or found.verdict == "load":
        return
    what = f"{ref.name} does not fit into memory as {ref.resolved_dtype} on {ref.device}."
    st.warning(f"**{plain(what)}** {plain(found.reason)}.", icon=":material/memory_alt:")
    label, changes = _WAYS_OUT.get(found.verdict, ("", {}))
    with st.container(horizontal=True):
        if label:
            st.button(label, type="primary", on_click=st.session_state.update, args=(changes,))
        if found.verdict != "too large":
            st.button(
                "Decode from disk",
                type="secondary" if label else "primary",
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


_WAYS_OUT = {
    "load in bfloat16": ("Open it in bfloat16", {state.DTYPE: "bfloat16"}),
    "spread over devices": ("Spread it over all GPUs", {state.DTYPE: "bfloat16", state.DEVICE: BALANCED}),
    "load on the CPU": ("Open it on the CPU", {state.DTYPE: "bfloat16", state.DEVICE: "cpu"}),
}
"""Verdict → what a button offers, and the choices that it makes."""


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


def _ask_to_fetch(ref: ModelRef, why: str) -> None:
    empty(
        f"{plain(why)}.  \nWhat is fetched from the Hugging Face Hub: weights as safetensors, configuration "
        "and tokenizer; no code. A model that is too large for this machine can be decoded shard by shard."
    )
    model = (ref.name, ref.revision)
    with st.container(horizontal=True):
        st.button(
            "Fetch it from the Hub",
            type="primary",
            icon=":material/download:",
            on_click=_allow_fetch,
            args=(model,),
        )
        st.button(
            "Will it fit?",
            icon=":material/memory:",
            on_click=_ask_hub,
            args=(model,),
            help="Fetches configuration, tokenizer and the headers of the weights, and no weight.",
        )
    if (found := fit_in_context(ref)) is not None:
        st.markdown(f"**{plain(found.verdict)}**: {plain(found.reason)}.")
    offer_shards(ref.name)


def _allow_fetch(model: tuple[str, str | None]) -> None:
    st.session_state[_FETCH] = {*st.session_state.get(_FETCH, ()), model}


def _ask_hub(model: tuple[str, str | None]) -> None:
    st.session_state[_ASKED] = {**st.session_state.get(_ASKED, {}), model: None}
