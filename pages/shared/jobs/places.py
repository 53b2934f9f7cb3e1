"""Which jobs the page itself shows, so that the sidebar does not show a second bar for them.

Sidebar and page redraw at different moments: two bars of one job would disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

_NOW, _BEFORE = "_jobs_on_page", "_jobs_on_page_before"
"""(page, keys of the orders it has shown since it was last drawn); keys it showed the time before."""


@contextmanager
def draw_page(page: str) -> Iterator[None]:
    """While a page is drawn: what it showed the last time counts as shown until it is done."""
    last, keys = st.session_state.get(_NOW, ("", frozenset()))
    st.session_state[_BEFORE] = keys if last == page else frozenset()
    st.session_state[_NOW] = (page, frozenset())
    try:
        yield
    finally:
        st.session_state[_BEFORE] = frozenset()


def place_on_page(key: str) -> None:
    """Say that the page shows an order's job. key: the order's."""
    page, keys = st.session_state.get(_NOW, ("", frozenset()))
    st.session_state[_NOW] = (page, keys | {key})


def is_on_page(key: str) -> bool:
    """Whether the page shows an order's job."""
    _, keys = st.session_state.get(_NOW, ("", frozenset()))
    return key in keys or key in st.session_state.get(_BEFORE, frozenset())
