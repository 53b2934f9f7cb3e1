"""Layout elements of pages: header, captions, method notes, empty states, downloads, progress."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.shared import state
from pages.shared.tokens import escape_text
from workbench.records import read_odd_record

DRAWS_PER_SECOND = 5
"""Smallest interval between redraws of a progress bar: thousands of units must not wait for the browser."""

CHART = {"toImageButtonOptions": {"format": "svg"}, "displaylogo": False}
"""Options of every chart: it downloads as SVG."""

FORMATS = ("safetensors", "gguf")
"""Names of folders that say nothing of the model in them."""


def show_header(title: str, question: str) -> None:
    """The page's title and the question it answers. Trusted Markdown."""
    st.title(title, anchor=False)
    st.markdown(question)


def show_caption(how_to_read: str) -> None:
    """One line below a chart or table that says how to read it. Trusted Markdown."""
    st.caption(how_to_read)


def show_method(title: str, formula_markdown: str, paper: str) -> None:
    """A popover with the formula, the options used, and the paper."""
    with st.popover(title, icon=":material/function:", type="tertiary"):
        st.markdown(formula_markdown)
        st.caption(paper)


def show_empty(text: str, *actions: Callable[[], Any]) -> None:
    """Empty state: Markdown that says what to do next, then actions, each drawing a control."""
    st.info(text, icon=":material/lightbulb:")
    for action in actions:
        action()


def show_page_link(
    label: str, page: str, *, icon: str | None = None, help: str | None = None, **params: object
) -> None:
    """A link into a page of the app with everything filled in, opened in this tab."""
    st.page_link(
        state.PAGES[page], label=label, icon=icon, help=help, query_params=state.make_query(**params)
    )


def place_side_by_side(narrow: str, wide: str) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two columns, stacked in a narrow window; returns their keys."""
    with st.container(horizontal=True, gap="medium"):
        places = st.container(key=narrow), st.container(key=wide)
    rules = ((narrow, "1 1 16rem"), (wide, "4 1 24rem"))
    wrapper = '[data-testid="stLayoutWrapper"]:has(> .st-key-'
    st.html("<style>" + "".join(f"{wrapper}{key}){{flex:{flex}}}" for key, flex in rules) + "</style>")
    return places


def show_download(
    label: str, make_bytes: bytes | str | Callable[[], Any], file_name: str, *, key: str | None = None
) -> None:
    """A download button. A callable makes the file on click; clicking reruns nothing."""
    st.download_button(
        label,
        make_bytes,
        file_name=file_name,
        key=key,
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
    )


def make_progress_bar(label: str, unit: str = "blocks") -> Callable[[int, int], None]:
    """A function (done, total) that draws a bar with count, rate and time left, and clears it at the end."""
    slot, clock = st.empty(), time.monotonic
    began: list[tuple[float, int]] = []  # time and count of the first call, from which the rate is measured
    drawn = [-1.0]

    def show(done: int, total: int) -> None:
        if done >= total:
            slot.empty()
            began.clear()
            return
        moment = clock()
        if not began:
            began.append((moment, done))
        if moment - drawn[0] >= 1 / DRAWS_PER_SECOND:
            drawn[0] = moment
            seconds, first = moment - began[0][0], began[0][1]
            slot.progress(
                done / total,
                text=f"{label}: {_counts(done - first, total - done, seconds, done, total, unit)}",
            )

    return show


def _counts(new: int, left: int, seconds: float, done: int, total: int, unit: str) -> str:
    counted = f"{done:,} of {total:,} {unit}"
    if not new or seconds <= 0:
        return counted
    rate = new / seconds
    return f"{counted} · {rate:,.1f} {unit} per second · {format_duration(left / rate)} left"


def format_duration(seconds: float) -> str:
    """`3.2 s`, `48 s`, `4 min 10 s` or `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_estimate(seconds: float) -> str:
    """`≈ 40 s`, `≈ 3 min`, `≈ 2.5 h`: no more digits than an estimate has."""
    if seconds < 50:
        return f"≈ {max(5, 5 * round(seconds / 5)):.0f} s"
    minutes = seconds / 60
    return f"≈ {max(1, round(minutes)):.0f} min" if minutes < 90 else f"≈ {minutes / 60:.1f} h"


def format_time(moment: str) -> str:
    """An ISO time as `23 Nov 2026, 01:20 UTC`; other text stays unchanged."""
    try:
        return f"{datetime.fromisoformat(moment):%d %b %Y, %H:%M} UTC"
    except ValueError:
        return escape_text(moment)


def shorten_model(model_name: str) -> str:
    """A model's name; for a folder its last part, or the one above if that only names a format. Of a model
    with an adapter, both, each so.
    """
    parts = re.split(r"\+(?=[/~.])|(?<=[^/])\+(?=[\w.-]+/[\w.-]+$)", model_name)
    if len(parts) > 1:
        return "+".join(map(shorten_model, parts))
    is_path = model_name.startswith(("/", "~", ".")) or "\\" in model_name
    if not is_path:
        return model_name
    path = PurePath(model_name)
    return (path.parent if path.name in FORMATS and path.parent.name else path).name or model_name


def format_size(count: float) -> str:
    """Bytes in decimal units: `1.0 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@dataclass(frozen=True)
class ClickedPoint:
    """A point of a chart, with its own data: what the figure gave it."""

    customdata: Any = None

    @property
    def datum(self) -> Any:
        """The first of its own data; None without any."""
        if isinstance(self.customdata, list | tuple):
            return next(iter(self.customdata), None)
        return self.customdata


@dataclass(frozen=True)
class Selection:
    """What is chosen in a table or chart. rows: by their number; cells: the row's number first."""

    rows: tuple[int, ...] = ()
    cells: tuple[tuple[Any, ...], ...] = ()
    points: tuple[ClickedPoint, ...] = ()

    @property
    def row(self) -> int | None:
        """The first chosen row, or that of the first chosen cell; None without one."""
        return next(iter([*self.rows, *(cell[0] for cell in self.cells if cell)]), None)

    @property
    def datum(self) -> Any:
        """The first datum of the first chosen point; None without one."""
        return next((point.datum for point in self.points), None)


@dataclass(frozen=True)
class _Widget:
    selection: Selection = Selection()
    row: int | None = None


def read_selection(widget: object) -> Selection:
    """What is chosen in a table or chart, from its value or its session state."""
    return read_odd_record(_Widget, widget).selection


def read_pressed_row(widget: object) -> int | None:
    """The row whose button was pressed, from the button column's session state."""
    return read_odd_record(_Widget, widget).row
