"""The rows of the recipe in this session: read from and written to the URL, added, dropped, filled in."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.intervene.clamp.recipe_rows import Row, read_row, read_suffix
from pages.shared import state

TEXT = "_recipe_text"
"""Key of the field that holds all clamps as text."""

_ROWS, _NEXT, _SEEN = "_recipe_rows", "_recipe_next", "_recipe_seen"


def list_rows() -> list[int]:
    """The numbers of the rows, from the top."""
    return list(st.session_state.get(_ROWS, ()))


def list_clamps() -> list[str]:
    """The clamps as typed, valid or not."""
    return [get_row(number).text for number in list_rows()]


def load_recipe(text: str) -> None:
    """Replace the recipe by one in the URL's notation."""
    _replace(text.split(state.SEPARATOR))


def append_guess() -> None:
    """Add a clamp whose value nothing suggests yet."""
    st.session_state[_guess_key(st.session_state.get(_NEXT, 0))] = True
    _append(Row())


def is_guess(number: int) -> bool:
    """Whether nobody chose a row's value yet."""
    return bool(st.session_state.get(_guess_key(number)))


def _guess_key(number: int) -> str:
    return f"_recipe_guess{number}"


def take_clamp(number: int, text: str) -> None:
    """Fill a row in from a clamp's text."""
    _fill(number, read_row(text))
    st.session_state[_guess_key(number)] = False


def read_url() -> None:
    """Load the recipe from the URL if it differs from the last one seen."""
    st.session_state.setdefault(_ROWS, [])
    given = st.query_params.get(state.CLAMPS)
    if given is not None and given != st.session_state.get(_SEEN):
        _replace(given.split(state.SEPARATOR))
        st.session_state[_SEEN] = given


def write_url(texts: Sequence[str]) -> None:
    """Mirror the recipe in the URL."""
    text = state.SEPARATOR.join(texts)
    if texts:
        st.query_params[state.CLAMPS] = text
    elif state.CLAMPS in st.query_params:
        del st.query_params[state.CLAMPS]
    st.session_state[_SEEN] = text


def replace_by_text() -> None:
    """A callback: the rows of what is typed as text."""
    _replace(st.session_state[TEXT].replace(state.SEPARATOR, "\n").split("\n"))


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


def drop_row(number: int) -> None:
    """A callback: remove a row."""
    st.session_state[_ROWS] = [row for row in st.session_state[_ROWS] if row != number]


def decide_row(number: int) -> None:
    """A rule that a user chose is no guess any more."""
    st.session_state[_guess_key(number)] = False


def retype_value(number: int) -> None:
    """A typed value stands as typed."""
    decide_row(number)
    st.session_state[name_key(number, "exact")] = ""
    tidy_row(number)


def tidy_row(number: int) -> None:
    """Split a whole clamp typed into the address field into its fields, and `8x` or `1.5r` into value and
    unit.
    """
    row = get_row(number)
    if ":" in row.address:
        decide_row(number)
        row = read_row(row.address)
    elif (unit := read_suffix(row.value)) is not None and row.mode != "scale":
        row = Row(row.address, row.mode, row.value.strip()[:-1], unit, row.site, row.scope)
    _fill(number, row)


def get_row(number: int) -> Row:
    """A row as typed."""
    names = Row.__dataclass_fields__
    return Row(**{name: str(st.session_state[name_key(number, name)] or "") for name in names})


def _fill(number: int, row: Row) -> None:
    for name, value in vars(row).items():
        st.session_state[name_key(number, name)] = value


def name_key(number: int, name: str) -> str:
    """The key of a row's field."""
    return f"_recipe{number}_{name}"
