"""Where pages catch errors: our own are explained, all others propagate."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

from analysis.errors import HeadlampError
from pages.shared.tokens import escape_text
from store import ReadableRows
from store.errors import StoreError


@contextmanager
def show_errors() -> Iterator[None]:
    """Run the body; show an error of ours with its cause and what to do, without a traceback."""
    try:
        yield
    except (HeadlampError, StoreError) as error:
        show_error(error)


@contextmanager
def toast_errors() -> Iterator[None]:
    """Run a button's action; an error of ours stays on screen until closed."""
    try:
        yield
    except (HeadlampError, StoreError) as error:
        st.toast(format_error(type(error).__name__, str(error)), icon=":material/error:", duration="infinite")


def show_error(error: HeadlampError | StoreError) -> None:
    """The error's name in words and its message."""
    st.error(format_error(type(error).__name__, str(error)), icon=":material/error:")


def show_unreadable(listed: ReadableRows[Any]) -> None:
    """A warning for each row that a list leaves out: which, why, and what to do."""
    for row in listed.unreadable:
        st.warning(escape_text(row.why), icon=":material/database_off:")


def format_error(name: str, message: str) -> str:
    """Markdown: an error's name in words and its message, escaped."""
    return f"**{escape_text(_in_words(name))}**  \n{escape_text(message)}"


def _in_words(name: str) -> str:
    """`AddressOutOfRange` → `Address out of range`."""
    if name in ("HeadlampError", "StoreError"):
        return "That did not work"
    first, *rest = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*", name) or [name]
    return " ".join([first, *(word.lower() for word in rest)])
