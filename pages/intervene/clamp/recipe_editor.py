"""The recipe editor: clamps as rows or as text, always mirrored in the URL."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.errors import ClampError, HeadlampError
from analysis.intervening.clamps import CLAMP_SITES, MODES, Clamp, parse_clamp
from analysis.opening.models import LoadedModel
from pages.intervene.clamp.recipe_rows import VALUED, Row, read_row, read_suffix
from pages.shared import state
from pages.shared.errors import show_error
from pages.shared.resources import get_store
from store.errors import StoreError
from workbench.generating.requests import describe_residual
from workbench.neurons.profiles import SiteProfile, find_neuron_profile, is_profiled

_ROWS, _NEXT, _SEEN, _TEXT = "_recipe_rows", "_recipe_next", "_recipe_seen", "_recipe_text"
_SCOPES = {
    "all": "all positions",
    "prompt": "the prompt",
    "generated": "generated text",
    "last": "the prompt's last token",
}
_UNITS = {"max": "× max", "residual": "× residual", "raw": "raw"}


def edit_recipe(loaded: LoadedModel) -> list[str]:
    """Draw the editor; returns the clamps as text, in order, valid or not."""
    _read_url()
    profiled = is_profiled(loaded, get_store())
    texts = []
    for place, number in enumerate(list(st.session_state[_ROWS])):
        with st.container(border=True):
            row = _edit(number, place + 1)
            _check(loaded, row.text, profiled=profiled)
        texts.append(row.text)
    st.button("Add a clamp", icon=":material/add:", on_click=_append, args=(Row(),), width="stretch")
    _as_text(texts)
    _write_url(texts)
    return texts


def load_recipe(text: str) -> None:
    """Replace the recipe by one in the URL's notation."""
    _replace(text.split(state.SEPARATOR))


def _edit(number: int, place: int) -> Row:
    top, end = st.columns([5, 1], vertical_alignment="bottom")
    top.text_input(
        f"Neuron of clamp {place}",
        key=_key(number, "address"),
        persist_state="session",
        placeholder="L2.N47",
        help="L12.N3405, L1.E68.N12 for a routed expert, L8.S0.N7 for a shared one; or a whole clamp.",
        on_change=_tidy,
        args=(number,),
    )
    end.button(
        "",
        key=f"_recipe_drop{number}",
        icon=":material/close:",
        help=f"Remove clamp {place}",
        type="tertiary",
        on_click=_drop,
        args=(number,),
    )
    _edit_rule(number)
    _edit_value(number)
    return _row(number)


def _edit_rule(number: int) -> None:
    mode, site = st.columns(2)
    mode.selectbox(
        "Mode",
        MODES,
        key=_key(number, "mode"),
        persist_state="session",
        help="set, add or scale by the value; ablate: 0; mean: that of the reference text.",
    )
    site.selectbox(
        "Site",
        CLAMP_SITES,
        key=_key(number, "site"),
        persist_state="session",
        help="key: the input of the down projection. up, gate: the projections before it.",
    )


def _edit_value(number: int) -> None:
    mode, scope = (st.session_state[_key(number, name)] for name in ("mode", "scope"))
    value, unit = st.columns(2)
    value.text_input(
        "Value",
        key=_key(number, "value"),
        persist_state="session",
        disabled=mode not in VALUED,
        on_change=_tidy,
        args=(number,),
    )
    unit.selectbox(
        "Unit",
        list(_UNITS),
        format_func=_UNITS.__getitem__,
        key=_key(number, "unit"),
        persist_state="session",
        disabled=mode not in VALUED[:2],
        help="× its largest |activation| on the reference text, position 0 excluded; × the residual stream's "
        "size at each position, so that 1 writes as much as the stream carries there; or raw.",
    )
    st.selectbox(
        "Where",
        list(dict.fromkeys([*_SCOPES, scope])),
        format_func=lambda name: _SCOPES.get(name, name),
        key=_key(number, "scope"),
        persist_state="session",
        accept_new_options=True,
        help="Positions are counted from 0, including special tokens; type 3-7 for a range.",
    )


def _check(loaded: LoadedModel, text: str, *, profiled: bool) -> None:
    """Below a row: its error, or its raw value and the neuron's own activations."""
    if text.startswith(":"):
        st.caption("Type a neuron's address, or find one on the Neurons page.")
        return
    try:
        clamp = parse_clamp(text)
        block = loaded.anatomy.block(clamp.address)
        if clamp.site == "gate" and not block.gated:
            raise ClampError(f"block {block.address} is plain and has no gate; choose the site key or up")
        if clamp.unit == "residual":
            st.caption(describe_residual(loaded, clamp) + ".")
        elif profiled:
            known = find_neuron_profile(loaded, get_store(), clamp.address)
            _sizes(clamp, None if known is None else known[clamp.site])
        elif clamp.needs_profile:
            st.caption(
                "Its largest activation is measured on the reference text when you first press Generate."
            )
    except (HeadlampError, StoreError) as error:
        show_error(error)


def _sizes(clamp: Clamp, known: SiteProfile | None) -> None:
    if known is None:
        clamp.resolve(largest=0.0, mean=float("nan"))
        st.caption("Its expert is never routed to on the reference text.")
        return
    raw = clamp.resolve(largest=known.largest, mean=known.mean).raw
    st.caption(
        f"Raw **{raw:.4g}** · its max |activation| is {known.largest:.4g}, "
        f"at position 0 {known.first_largest:.4g}"
    )


def _as_text(texts: Sequence[str]) -> None:
    st.session_state[_TEXT] = "\n".join(texts)
    with st.expander("As text"):
        st.text_area(
            "One clamp per line",
            key=_TEXT,
            on_change=_from_text,
            help="ADDRESS[:SITE]:MODE[:VALUE][@SCOPE], as in links, exports and the command line.",
            placeholder="L2.N47:key:set:-8x@all",
        )


def _read_url() -> None:
    """Load the recipe from the URL if it differs from the last one seen."""
    st.session_state.setdefault(_ROWS, [])
    given = st.query_params.get(state.CLAMPS)
    if given is not None and given != st.session_state.get(_SEEN):
        _replace(given.split(state.SEPARATOR))
        st.session_state[_SEEN] = given


def _write_url(texts: Sequence[str]) -> None:
    text = state.SEPARATOR.join(texts)
    if texts:
        st.query_params[state.CLAMPS] = text
    elif state.CLAMPS in st.query_params:
        del st.query_params[state.CLAMPS]
    st.session_state[_SEEN] = text


def _from_text() -> None:
    _replace(st.session_state[_TEXT].replace(state.SEPARATOR, "\n").split("\n"))


def _replace(texts: Sequence[str]) -> None:
    st.session_state[_ROWS] = []
    for text in texts:
        if text.strip():
            _append(read_row(text))


def _append(row: Row) -> None:
    number = st.session_state.get(_NEXT, 0)
    st.session_state[_NEXT] = number + 1
    st.session_state[_ROWS] = [*st.session_state[_ROWS], number]
    _fill(number, row)


def _drop(number: int) -> None:
    st.session_state[_ROWS] = [row for row in st.session_state[_ROWS] if row != number]


def _tidy(number: int) -> None:
    """Split a whole clamp typed into the address field into its fields, and `8x` or `1.5r` into value and
    unit.
    """
    row = _row(number)
    if ":" in row.address:
        row = read_row(row.address)
    elif (unit := read_suffix(row.value)) is not None and row.mode != "scale":
        row = Row(row.address, row.mode, row.value.strip()[:-1], unit, row.site, row.scope)
    _fill(number, row)


def _row(number: int) -> Row:
    names = Row.__dataclass_fields__
    return Row(**{name: str(st.session_state[_key(number, name)] or "") for name in names})


def _fill(number: int, row: Row) -> None:
    for name, value in vars(row).items():
        st.session_state[_key(number, name)] = value


def _key(number: int, name: str) -> str:
    return f"_recipe{number}_{name}"
