"""What neurons do to a word, measured: levers and doses as charts and tables, on Neurons and on Findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from analysis.figures.doses import dose_figure
from analysis.figures.levers import lever_figure
from pages.shared import state
from pages.shared.layout import CHART, read_selection, show_caption
from pages.shared.tokens import escape_text
from store.word_evidence import DOSE_COLUMNS, LEVER_COLUMNS, DoseFacts, LeverFacts, PromptFacts, WordEvidence
from workbench.files import table_csv
from workbench.levers.pictures import (
    HOW_TO_READ_DOSES,
    HOW_TO_READ_LEVERS,
    list_doses,
    make_dose_lines,
    make_lever_bars,
)

_P = st.column_config.NumberColumn(format="percent")
_NATS = st.column_config.NumberColumn(format="%.2g", help="Nats a token")
LEVER_CONFIG: dict[str, Any] = {
    "clamps": st.column_config.TextColumn(width=360, help="Neuron:value, r for × the residual at the place"),
    **dict.fromkeys(("held-out P", "without", "best random", "selection P", "other kind P"), _P),
    "neutral KL": _NATS,
}
_DOSE_CONFIG: dict[str, Any] = {
    "value": st.column_config.NumberColumn(format="%.3g"),
    **dict.fromkeys(("P", "random from", "to"), _P),
    **dict.fromkeys(("KL", "neutral KL"), _NATS),
}


def show_verdict(said: WordEvidence) -> None:
    """The verdict in words; green only where a word is steerable and not forced where another is due."""
    if said.steerable and not said.forces:
        st.success(escape_text(said.verdict), icon=":material/verified:")
    elif said.steerable:
        st.warning(escape_text(said.verdict), icon=":material/warning:")
    else:
        st.info(escape_text(said.verdict), icon=":material/info:")


def show_lever_table(said: WordEvidence, *, key: str, pick: bool = False) -> int:
    """A row for each lever. pick: whether one can be chosen, by a click anywhere on its row.

    Returns the number of the chosen row, 0 without one.
    """
    event: Any = st.dataframe(
        pd.DataFrame([lever.cells() for lever in said.levers], columns=list(LEVER_COLUMNS)),
        hide_index=True,
        column_config=LEVER_CONFIG,
        key=key,
        placeholder="–",
        **_pickable(pick),
    )
    show_caption(
        f"{'Click a row to take it. ' if pick else ''}"
        "P: mean over prompts. Held-out: on prompts that the choice never saw; without: there without "
        "clamps; best random: the best of random neurons given the same search (run for the best neuron "
        "and the best set); other kind: where another kind of word is due; neutral KL: nats a token on other "
        "text."
    )
    row = read_selection(event).row
    return row if row is not None and row < len(said.levers) else 0


def _pickable(pick: bool) -> dict[str, Any]:
    """How a table reacts to a click: on any cell, or on a row's tick."""
    return {"on_select": "rerun", "selection_mode": ["single-row", "single-cell"]} if pick else {}


def show_lever_chart(said: WordEvidence, *, key: str) -> None:
    """The best levers beside what they are measured against."""
    figure = lever_figure(said.word, make_lever_bars(said))
    st.plotly_chart(figure, key=key, alt=f"Levers of {said.word} by P on held-out prompts", config=CHART)
    show_caption(HOW_TO_READ_LEVERS)


def show_dose_chart(said: WordEvidence, neuron: str, *, key: str, pick: bool = False) -> DoseFacts | None:
    """The dose curve of one neuron. pick: whether a point can be clicked, which is then given back."""
    doses = list_doses(said, neuron)
    event: Any = st.plotly_chart(
        dose_figure(said.word, make_dose_lines(said, doses), unit=said.unit),
        key=key,
        alt=f"P({said.word}) by the value of {neuron}",
        config=CHART,
        on_select="rerun" if pick else "ignore",
        selection_mode="points",
    )
    show_caption(f"{HOW_TO_READ_DOSES}{' Click a point to take its value.' if pick else ''}")
    place = read_selection(event).datum
    return doses[int(place)] if place is not None and 0 <= int(place) < len(doses) else None


def show_dose_table(said: WordEvidence, neuron: str) -> None:
    """Every value of one neuron."""
    rows = [dose.cells()[1:] for dose in list_doses(said, neuron)]
    table = pd.DataFrame(rows, columns=list(DOSE_COLUMNS[1:]))
    st.dataframe(table, hide_index=True, column_config=_DOSE_CONFIG, placeholder="–")
    show_caption(f"Values in {said.unit}. KL: nats at the answer position; neutral KL: nats a token.")


def write_effects_csv(said: WordEvidence) -> bytes:
    """The levers, or the doses, as CSV with all digits."""
    if said.levers:
        return table_csv(list(LEVER_COLUMNS), [lever.cells() for lever in said.levers])
    count = max((len(dose.probability) for dose in said.doses), default=0)
    names = [f"P prompt {at + 1}" for at in range(count)]
    return table_csv([*DOSE_COLUMNS, *names], [(*dose.cells(), *dose.probability) for dose in said.doses])


def make_clamp_view(
    said: WordEvidence, clamps: Sequence[str], lever: LeverFacts | None = None
) -> dict[str, Any]:
    """The Clamp page's URL: these clamps, the word, and a prompt it was measured on."""
    view: dict[str, Any] = {state.CLAMPS: state.SEPARATOR.join(clamps), state.HANDED_WORD: said.word}
    prompt = choose_prompt(said, lever)
    if prompt is not None:
        view |= {
            state.PROMPT: prompt.prompt,
            state.PREFIX: prompt.answer_prefix,
            state.SYSTEM: prompt.system,
            state.TURNS: prompt.turns,
            state.RAW: "true" if prompt.raw else "",
        }
    return view


def choose_prompt(said: WordEvidence, lever: LeverFacts | None = None) -> PromptFacts | None:
    """The held-out prompt on which a lever does most nearly what it does on average; of a sweep the first."""
    held = [one for one in said.prompts if one.purpose == "held out"]
    if lever is None or lever.held_out is None or len(lever.probability) != len(held):
        return next(iter(held or [one for one in said.prompts if one.purpose == "swept on"]), None)
    mean = lever.held_out
    gaps = [abs((chance or 0.0) - mean) for chance in lever.probability]
    return held[gaps.index(min(gaps))] if held else None
