"""The recipe editor: clamps as rows or as text, always mirrored in the URL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from analysis.intervening.clamps import CLAMP_SITES, MODES
from analysis.opening.models import LoadedModel
from pages.intervene.clamp.recipe_rows import VALUED, Row
from pages.intervene.clamp.recipe_state import (
    TEXT,
    append_guess,
    decide_row,
    drop_row,
    get_row,
    is_guess,
    list_rows,
    name_key,
    read_url,
    replace_by_text,
    retype_value,
    take_clamp,
    tidy_row,
    write_url,
)
from pages.intervene.clamp.value_sources import (
    check_row,
    find_measured,
    is_measured_together,
    show_value_source,
)
from pages.shared.resources import get_store
from workbench.neurons.profiles import is_profiled

_SCOPES = {
    "all": "all positions",
    "prompt": "the prompt",
    "generated": "generated text",
    "last": "the prompt's last token",
}
_UNITS = {"max": "× max", "residual": "× residual", "raw": "raw"}


def edit_recipe(loaded: LoadedModel, word: str) -> list[str]:
    """Draw the editor; returns the clamps as text, in order, valid or not.

    word: the one to measure; a new clamp takes the value that was measured best for it.
    """
    read_url()
    profiled = is_profiled(loaded, get_store())
    whole = [get_row(number).text for number in list_rows()]
    together = len(whole) if is_measured_together(loaded, whole, word) else 0
    texts = []
    for place, number in enumerate(list_rows()):
        best = find_measured(loaded, get_row(number).address, word)
        if best is not None and is_guess(number):
            take_clamp(number, str(best))
        with st.container(border=True):
            row = _edit(number, place + 1)
            check_row(loaded, row.text, profiled=profiled)
            take = partial(take_clamp, number)
            guess = is_guess(number)
            show_value_source(
                row.text, best, word, take=take, key=f"{number}", guess=guess, together=together
            )
        texts.append(row.text)
    st.button("Add a clamp", icon=":material/add:", on_click=append_guess, width="stretch")
    _as_text(texts)
    write_url(texts)
    return texts


def _edit(number: int, place: int) -> Row:
    top, end = st.columns([5, 1], vertical_alignment="bottom")
    top.text_input(
        f"Neuron of clamp {place}",
        key=name_key(number, "address"),
        persist_state="session",
        placeholder="L2.N47",
        help="L12.N3405, L1.E68.N12 for a routed expert, L8.S0.N7 for a shared one; or a whole clamp.",
        on_change=tidy_row,
        args=(number,),
    )
    end.button(
        "",
        key=f"_recipe_drop{number}",
        icon=":material/close:",
        help=f"Remove clamp {place}",
        type="tertiary",
        on_click=drop_row,
        args=(number,),
    )
    _edit_rule(number)
    _edit_value(number)
    return get_row(number)


def _edit_rule(number: int) -> None:
    mode, site = st.columns(2)
    mode.selectbox(
        "Mode",
        MODES,
        key=name_key(number, "mode"),
        persist_state="session",
        on_change=decide_row,
        args=(number,),
        help="set, add or scale by the value; ablate: 0; mean: that of the reference text.",
    )
    site.selectbox(
        "Site",
        CLAMP_SITES,
        key=name_key(number, "site"),
        persist_state="session",
        on_change=decide_row,
        args=(number,),
        help="key: the input of the down projection. up, gate: the projections before it.",
    )


def _edit_value(number: int) -> None:
    mode, scope = (st.session_state[name_key(number, name)] for name in ("mode", "scope"))
    value, unit = st.columns(2)
    value.text_input(
        "Value",
        key=name_key(number, "value"),
        persist_state="session",
        disabled=mode not in VALUED,
        on_change=retype_value,
        args=(number,),
    )
    unit.selectbox(
        "Unit",
        list(_UNITS),
        format_func=_UNITS.__getitem__,
        key=name_key(number, "unit"),
        persist_state="session",
        on_change=decide_row,
        args=(number,),
        disabled=mode not in VALUED[:2],
        help="× its largest |activation| on the reference text, position 0 excluded; × the residual stream's "
        "size at each position, so that 1 writes as much as the stream carries there; or raw.",
    )
    st.selectbox(
        "Where",
        list(dict.fromkeys([*_SCOPES, scope])),
        format_func=lambda name: _SCOPES.get(name, name),
        key=name_key(number, "scope"),
        persist_state="session",
        on_change=decide_row,
        args=(number,),
        accept_new_options=True,
        help="Positions are counted from 0, including special tokens; type 3-7 for a range.",
    )


def _as_text(texts: Sequence[str]) -> None:
    st.session_state[TEXT] = "\n".join(texts)
    with st.expander("As text"):
        st.text_area(
            "One clamp per line",
            key=TEXT,
            on_change=replace_by_text,
            help="ADDRESS[:SITE]:MODE[:VALUE][@SCOPE], as in links, exports and the command line.",
            placeholder="L2.N47:key:set:-8x@all",
        )
