"""Resources of every page: the store, its jobs, and the open model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import streamlit as st

from analysis.checkpoints.devices import BALANCED
from analysis.checkpoints.hub import hub_model
from analysis.checkpoints.sources import is_hub_file, is_hub_id, split_adapter
from analysis.errors import NotFetched
from analysis.opening.memory import MemoryFit
from analysis.opening.models import LoadedModel, ModelRef, resolve_ref
from demo import BUNDLED, ELSEWHERE, FIRST_REAL
from pages.shared import state
from pages.shared.layout import show_empty
from pages.shared.tokens import escape_text
from pages.shared.weights import choose_disk, explain_not_run, offer_shards, read_weights_choice
from store import Store, open_store
from workbench.jobs.jobs import Jobs
from workbench.models import (
    ModelFacts,
    check_model_memory,
    hold_model,
    is_loaded,
    measure_model,
    open_model,
    release_model,
)

FIRST_MODEL = "demo/base"
_OPEN = "_open_model"
_FETCH = "_fetch_allowed"
_ANYWAY = "_opened_whatever_it_takes"
_HELD = "_held_models"
_ASKED = "_asked_at_the_hub"
"""Models the user looked up at the Hub → the result; None until requested."""


def get_store() -> Store:
    """The one store, shared by all sessions."""
    return _store(os.environ.get("HEADLAMP_DB", ""))


@st.cache_resource(show_spinner=False)
def _store(named: str) -> Store:
    """One store per file named by HEADLAMP_DB in this process."""
    return open_store()


def get_jobs() -> Jobs:
    """The jobs of the store, shared by all sessions."""
    return _jobs(get_store(), str(get_store().path))


@st.cache_resource(show_spinner=False)
def _jobs(_store: Store, path: str) -> Jobs:
    """One queue per file, however it was named: it outlives every page and window."""
    return Jobs(_store)


def read_default_model() -> str | None:
    """The model opened on a first visit: HEADLAMP_MODEL, else the bundled demo/base, else none."""
    return os.environ.get("HEADLAMP_MODEL") or (FIRST_MODEL if FIRST_MODEL in BUNDLED else None)


def read_current_ref() -> ModelRef | None:
    """The model named by URL and sidebar; None if none is chosen."""
    name = str(st.session_state.get(state.MODEL) or "").strip()
    revision = str(st.session_state.get(state.REVISION) or "").strip()
    return make_ref(name, revision) if name else None


def make_ref(name: str, revision: str = "") -> ModelRef:
    """A model with the sidebar's device and dtype. revision: of a Hub id.

    One whose weights stay on disk is on the CPU, whatever the sidebar says.
    """
    device, dtype = (st.session_state.get(key) or "auto" for key in (state.DEVICE, state.DTYPE))
    weights, at = read_weights_choice(name), revision if is_hub_id(name) and revision else None
    return resolve_ref(ModelRef(name, at, "cpu" if weights else device, dtype, **weights))


@contextmanager
def use_model(other: ModelRef | None = None, *, runs: str = "") -> Iterator[LoadedModel]:
    """The open model while the body runs, or another one. Without a choice the page says how to make one, and
    stops.

    A model is fetched only on request: a link alone never downloads. runs: what needs to run the model, if
    anything; if its weights stay on disk, the page says so and stops.
    """
    ref = read_current_ref() if other is None else other
    if ref is None:
        _no_model()
        st.stop()
    if runs and ref.streamed:
        explain_not_run(ref, runs)
        st.stop()
    _stop_if_too_large(ref)
    allowed = (ref.name, ref.revision) in st.session_state.get(_FETCH, ())
    with ExitStack() as stack:
        try:
            with st.spinner(f"Opening {escape_text(ref.name)} …", show_time=True):
                loaded = stack.enter_context(open_model(ref, get_store(), fetch=allowed))
        except NotFetched as missing:
            _ask_to_fetch(ref, str(missing))
            st.stop()
        _hold("open" if other is None else "other", ref)
        if other is None and read_open_facts() is None:
            st.session_state[_OPEN] = (ref, measure_model(loaded))
        yield loaded


def check_fit(ref: ModelRef) -> MemoryFit | None:
    """What a model needs for the chosen context, and whether it fits; None if it is not on this machine and
    the Hub was not queried.

    Raises a ModelError for a folder that is no model, or if the Hub does not answer.
    """
    asked, model = st.session_state.get(_ASKED, {}), (ref.name, ref.revision)
    if model in asked and asked[model] is None:
        asked[model] = hub_model(split_adapter(ref.name)[0], ref.revision)
    return check_model_memory(ref, st.session_state.get(state.CONTEXT), asked.get(model))


@st.cache_resource(scope="session", show_spinner=False, on_release=release_model)
def _keep_hold(place: str, ref: ModelRef) -> ModelRef:
    """This session's hold on a model; its memory is released when the session ends or opens another."""
    return hold_model(ref)


def _hold(place: str, ref: ModelRef) -> None:
    release_other(place, but=ref)
    st.session_state.setdefault(_HELD, {})[place] = _keep_hold(place, ref)


def release_other(place: str, but: ModelRef | None = None) -> None:
    """End this session's hold on the model opened in a place (`open` or `other`), if it is another one."""
    held = st.session_state.get(_HELD, {})
    if place in held and held[place] != but:
        _keep_hold.clear(place, held.pop(place))


def _stop_if_too_large(ref: ModelRef) -> None:
    """A model that does not fit is opened only on request; the page offers alternatives."""
    if ref.streamed or is_loaded(ref) or ref in st.session_state.get(_ANYWAY, ()):
        return
    found = check_fit(ref)
    if found is None or found.verdict == "load":
        return
    what = f"{ref.name} does not fit into memory as {ref.resolved_dtype} on {ref.device}."
    st.warning(f"**{escape_text(what)}** {escape_text(found.reason)}.", icon=":material/memory_alt:")
    label, changes = _WAYS_OUT.get(found.verdict, ("", {}))
    with st.container(horizontal=True):
        if label:
            st.button(label, type="primary", on_click=st.session_state.update, args=(changes,))
        if found.verdict != "too large":
            st.button(
                "Decode from disk",
                type="secondary" if label else "primary",
                on_click=choose_disk,
                args=(ref.name,),
            )
        st.button("Open it anyway", on_click=_open_anyway, args=(ref,))
    if found.verdict != "too large":
        st.caption(
            "From disk, layer by layer, its neurons can still be decoded, searched and compared, but it "
            "cannot be run: no clamps, no activations. In a terminal:"
        )
        st.code(f"python -m workbench decode {ref.name} --from-disk", language="sh")
    st.stop()


_WAYS_OUT = {
    "load in bfloat16": ("Open it in bfloat16", {state.DTYPE: "bfloat16"}),
    "spread over devices": ("Spread it over all GPUs", {state.DTYPE: "bfloat16", state.DEVICE: BALANCED}),
    "load on the CPU": ("Open it on the CPU", {state.DTYPE: "bfloat16", state.DEVICE: "cpu"}),
}
"""Verdict → a button's label, and the choices it makes."""


def _open_anyway(ref: ModelRef) -> None:
    st.session_state[_ANYWAY] = {*st.session_state.get(_ANYWAY, ()), ref}


def read_open_facts() -> ModelFacts | None:
    """Facts about the current model once it was opened in this session."""
    ref, facts = st.session_state.get(_OPEN, (None, None))
    return facts if ref is not None and ref == read_current_ref() else None


def _no_model() -> None:
    show_empty(
        "No model is open. Choose one at the left under **Model**: a bundled one, a folder that holds "
        "`config.json`, a tokenizer and `*.safetensors`, a `.gguf` file, or a Hub id such as "
        "`EleutherAI/pythia-70m` or `ORG/NAME:FILE.gguf`, and `+ADAPTER` behind it for a LoRA adapter. "
        "`HEADLAMP_MODEL` names the default."
    )


def _ask_to_fetch(ref: ModelRef, why: str) -> None:
    if ref.name == FIRST_REAL:
        why = f"{FIRST_REAL} is a small real chat model at the Hugging Face Hub, not on this machine yet"
    show_empty(
        f"{escape_text(why)}.  \nFrom the Hub, only weights as safetensors or GGUF, configuration "
        "and tokenizer are fetched; no code. A model that is too large for this machine can be decoded shard "
        "by shard."
    )
    if ref.name in ELSEWHERE:
        st.caption(f"Where the Hub cannot be reached, {ELSEWHERE[ref.name]}.")
    model = (ref.name, ref.revision)
    one_file = is_hub_file(ref.name) or not is_hub_id(ref.name)  # of the latter only the adapter is missing
    with st.container(horizontal=True):
        st.button(
            "Fetch it from the Hub",
            type="primary",
            icon=":material/download:",
            on_click=_allow_fetch,
            args=(model,),
        )
        if not one_file:
            st.button(
                "Will it fit?",
                icon=":material/memory:",
                on_click=_ask_hub,
                args=(model,),
                help="Fetches configuration, tokenizer and the headers of the weights, but no weights.",
            )
    if one_file:  # which comes whole, or not at all
        return
    if (found := check_fit(ref)) is not None:
        st.markdown(f"**{escape_text(found.verdict)}**: {escape_text(found.reason)}.")
    offer_shards(ref.name)


def _allow_fetch(model: tuple[str, str | None]) -> None:
    st.session_state[_FETCH] = {*st.session_state.get(_FETCH, ()), model}


def _ask_hub(model: tuple[str, str | None]) -> None:
    st.session_state[_ASKED] = {**st.session_state.get(_ASKED, {}), model: None}
