"""The edge where errors are caught, once: ours are explained, all others propagate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from analysis.errors import HeadlampError
from pages.shared.tokens import plain
from store import Listed
from store.errors import StoreError


@contextmanager
def shown_errors() -> Iterator[None]:
    """Run the body; say what, why and the way out of an error that is ours, without a traceback."""
    try:
        yield
    except (HeadlampError, StoreError) as error:
        show_error(error)


@contextmanager
def toasted_errors() -> Iterator[None]:
    """Run what a button does; an error of ours stays on the screen until somebody closes it."""
    try:
        yield
    except (HeadlampError, StoreError) as error:
        st.toast(error_text(type(error).__name__, str(error)), icon=":material/error:", duration="infinite")


def show_error(error: HeadlampError | StoreError) -> None:
    """The error's name in words and its message."""
    st.error(error_text(type(error).__name__, str(error)), icon=":material/error:")


def show_unreadable(listed: Listed[Any]) -> None:
    """A warning for each row that a list leaves out: which, why, and the way out."""
    for row in listed.unreadable:
        st.warning(plain(row.why), icon=":material/database_off:")


def error_text(name: str, message: str) -> str:
    """Markdown: an error's name in words and its message, whatever characters a name in it holds."""
    return f"**{plain(_in_words(name))}**  \n{plain(message)}"


def _in_words(name: str) -> str:
    """`AddressOutOfRange` → `Address out of range`."""
    if name in ("HeadlampError", "StoreError"):
        return "That did not work"
    first, *rest = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", name) or [name]
    return " ".join([first, *(word.lower() for word in rest)])
