"""Base and changed text side by side, and the answer position of both."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Literal

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis.figures.answers import SHOWN, answer_figure
from analysis.running.differences import Piece, log_odds_change, mark_differences
from pages.shared.layout import CHART, show_caption, show_download
from pages.shared.tokens import escape_text, show_token
from store.evidence import TokenChances
from workbench.files import table_csv

CONTEXT_SHOWN = 300
"""Characters of the prompt's end shown before each text."""

TITLES = ("Base", "Changed")
HOW_TO_READ = "Grey: the prompt. Shaded and underlined: what differs from the other text."

_BOX = (
    "border:1px solid rgba(128,128,128,.45);border-radius:.4rem;padding:.7rem .9rem;min-height:5.5rem;"
    "line-height:1.65;white-space:pre-wrap;overflow-wrap:anywhere"
)
_MARKS = (
    "background:rgba(0,114,178,.2);border-bottom:2px dotted rgb(0,114,178)",
    "background:rgba(213,120,0,.24);border-bottom:2px solid rgb(213,120,0)",
)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def place_pair() -> tuple[DeltaGenerator, DeltaGenerator]:
    """Two titled columns, which `show_pair` can fill repeatedly."""
    slots = []
    for column, title in zip(st.columns(2), TITLES, strict=True):
        column.markdown(f"**{title}**")
        slots.append(column.empty())
    return slots[0], slots[1]


def show_pair(
    slots: tuple[DeltaGenerator, DeltaGenerator],
    base: Sequence[str],
    changed: Sequence[str],
    *,
    before: str = "",
    growing: bool = False,
    notes: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> None:
    """Both texts, token by token, with their differences marked.

    before: the prompt, shown in grey. notes: shown over each token of (base, changed) under the mouse.
    """
    pairs = zip(slots, mark_differences(base, changed), _MARKS, notes, strict=True)
    for slot, pieces, mark, said in pairs:
        slot.html(render_text(pieces, mark, before=before, growing=growing, notes=said))


def render_text(
    pieces: Sequence[Piece],
    mark: str = _MARKS[1],
    *,
    before: str = "",
    growing: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """One text, escaped, with white space preserved; differing segments in `<mark>`. notes: a token each."""
    shown = f"…{before[-CONTEXT_SHOWN:]}" if len(before) > CONTEXT_SHOWN else before
    parts, left = [f'<span style="opacity:.62">{html.escape(shown)}</span>'], list(notes)
    for piece in pieces:
        text = _write_spans(piece.spans, left) if notes else html.escape(piece.text)
        parts.append(text if piece.same else f'<mark style="color:inherit;{mark}">{text}</mark>')
    if growing:
        parts.append('<span aria-hidden="true" style="opacity:.5">▌</span>')
    return f'<div dir="auto" style="{_BOX}">{"".join(parts)}</div>'


def _write_spans(spans: Sequence[tuple[str, int]], notes: list[str]) -> str:
    """Each token, escaped, under its note; notes are taken from the front."""
    written = []
    for text, count in spans:
        note = html.escape("\n".join(notes[:count]))
        del notes[:count]
        written.append(f'<span title="{note}">{html.escape(text)}</span>')
    return "".join(written)


def split_words(text: str) -> list[str]:
    """A text split before each word, for texts without tokens."""
    return re.findall(r"\s*\S+|\s+", text)


def show_word(word: str, base: float, changed: float) -> None:
    """P(word) before and after, with the change of its log-odds."""
    change = None if base == changed else log_odds_change(base, changed)
    delta = None if change is None else f"{change:+.2f}".replace("-", "−") + " log-odds"
    if base == changed:
        delta = "identical"
    arrow: Literal["up", "down", "off"] = "off" if base == changed else "up" if changed > base else "down"
    before, after = st.columns(2)
    label = f"P({escape_text(show_token(word))})"
    before.metric(f"{label} base", format_percent(base), border=True)
    after.metric(
        f"{label} changed",
        format_percent(changed),
        delta,
        border=True,
        delta_color="off",
        delta_arrow=arrow,
    )


def format_percent(probability: float) -> str:
    """`12.3 %`; small ones as `5.0 × 10⁻⁹`."""
    if probability == 0 or probability >= 1e-5:
        return f"{100 * probability:.3g} %"
    digits, exponent = f"{probability:.1e}".split("e")
    return f"{digits} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def show_answers(answers: Sequence[TokenChances], *, name: str) -> None:
    """The answer position's likeliest tokens in either text: figure, table and CSV."""
    told = [row for row in answers if row.base is not None and row.changed is not None]
    st.markdown("**The next token after the prompt**")
    tokens = [show_token(row.token) for row in told]
    base, changed = [row.base or 0.0 for row in told], [row.changed or 0.0 for row in told]
    st.plotly_chart(answer_figure(tokens, base, changed), key=f"answers-{name}", config=CHART)
    show_caption(
        f"Each row is one of the {min(SHOWN, len(told))} likeliest tokens in either text: "
        "a ring at the base probability, a diamond at the changed one. ␣ is a leading space."
    )
    with st.expander(f"Numbers ({len(told)} tokens)"):
        _answer_table(tokens, base, changed)
    show_download("Answer position as CSV", answers_csv(told), f"answer-{name}.csv", key=f"csv-{name}")


def _answer_table(tokens: list[str], base: list[float], changed: list[float]) -> None:
    pairs = list(zip(base, changed, strict=True))
    columns = {
        "token": tokens,
        "base (%)": [100 * p for p in base],
        "clamped (%)": [100 * p for p in changed],
        "difference (points)": [100 * (after - before) for before, after in pairs],
        "log-odds": [log_odds_change(before, after) for before, after in pairs],
    }
    number = st.column_config.NumberColumn
    formats = {name: number(format="%.4f") for name in list(columns)[1:]}
    st.dataframe(columns, hide_index=True, column_config=formats)


def answers_csv(answers: Sequence[TokenChances]) -> bytes:
    """token, base, changed and log-odds change, exactly; texts that a spreadsheet would run begin with '."""
    rows = (
        [row.token, row.base, row.changed, log_odds_change(row.base or 0.0, row.changed or 0.0)]
        for row in answers
    )
    return table_csv(["token", "base", "changed", "log_odds_change"], rows)
