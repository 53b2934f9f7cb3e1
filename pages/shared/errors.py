"""The edge where errors are caught, once: ours are explained, all others propagate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from analysis.errors import HeadlampError
from pages.shared.tokens import plain
from store.errors import StoreError


@contextmanager
def shown_errors() -> Iterator[None]:
    """Run the body; say what, why and the way out of an error that is ours, without a traceback."""
    try:
        yield
    except (HeadlampError, StoreError) as error:
        show_error(error)


def show_error(error: HeadlampError | StoreError) -> None:
    """The error's name in words and its message, whatever characters a name in it holds."""
    st.error(f"**{_in_words(error)}**  \n{plain(str(error))}", icon=":material/error:")


def _in_words(error: Exception) -> str:
    """`AddressOutOfRange` → `Address out of range`."""
    name = type(error).__name__
    if name in ("HeadlampError", "StoreError"):
        return "That did not work"
    first, *rest = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", name)
    return " ".join([first, *(word.lower() for word in rest)])
