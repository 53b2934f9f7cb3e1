"""The filterable table of runs, and the selected run; all of it in the URL."""

from __future__ import annotations

import streamlit as st

from pages.shared import state
from pages.shared.errors import show_unreadable
from pages.shared.layout import format_time, read_selection, shorten_model, show_caption
from pages.shared.links.stored import StoredSubject
from pages.shared.resources import get_store
from store import Run, list_runs
from workbench.records import read_odd_record

AT_MOST = 1000
_TABLE, _CHOSEN = "_runs_table", "_runs_chosen"


def filter_runs() -> list[Run]:
    """The runs of the chosen kind and model, newest first."""
    runs = list_runs(get_store(), limit=AT_MOST)
    show_unreadable(runs)
    kind_column, model_column = st.columns(2)
    kinds, models = sorted({run.kind for run in runs}), list(dict.fromkeys(run.model_name for run in runs))
    kind = kind_column.selectbox(
        "Kind", kinds, index=None, key=state.KIND, bind="query-params", placeholder="All kinds"
    )
    name = model_column.selectbox(
        "Made with", models, index=None, key="of", bind="query-params", placeholder="All models"
    )
    return [run for run in runs if kind in (None, run.kind) and name in (None, run.model_name)]


def show_runs(runs: list[Run]) -> None:
    """One row per run; a click opens it below."""
    rows = {
        "kind": [run.kind for run in runs],
        "about": [describe_run(run) for run in runs],
        "model": [shorten_model(run.model_name) for run in runs],
        "done": [run.stored_units / run.units for run in runs],
        "parts": [f"{run.stored_units}/{run.units}" for run in runs],
        "seconds": [run.seconds for run in runs],
        "kB": [run.bytes / 1000 for run in runs],
        "created": [format_time(run.created_at) for run in runs],
    }
    column = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        key=_TABLE,
        on_select=lambda: _pick(runs),
        selection_mode="single-row",
        column_config={
            "done": column.ProgressColumn(format="percent", min_value=0, max_value=1, width=90),
            "about": column.TextColumn(width="medium"),
            "seconds": column.NumberColumn(format="%.2f"),
            "kB": column.NumberColumn(format="%.1f"),
        },
    )
    more = (
        f"The newest {AT_MOST} runs."
        if len(runs) == AT_MOST
        else f"{len(runs)} run{'' if len(runs) == 1 else 's'}."
    )
    show_caption(
        f"{more} Mark a row to see its parameters below. Seconds: computing time. kB: size of its results."
    )


def _pick(runs: list[Run]) -> None:
    """Open the run of the selected row."""
    row = read_selection(st.session_state[_TABLE]).row
    if row is not None and row < len(runs):
        st.query_params[state.RUN] = runs[row].key


def choose_run(runs: list[Run]) -> str | None:
    """The run to show, named by the URL; selectable by name here, or in the table."""
    names = {
        run.key: f"{run.kind} · {describe_run(run) or shorten_model(run.model_name)} · {run.key[:8]}"
        for run in runs
    }
    given = st.query_params.get(state.RUN)
    st.session_state[_CHOSEN] = given if given in names else None

    def choose() -> None:
        st.query_params[state.RUN] = st.session_state[_CHOSEN] or ""

    return st.selectbox(
        "Run",
        list(names),
        index=None,
        key=_CHOSEN,
        on_change=choose,
        format_func=lambda key: names.get(key, key),
        placeholder="Choose one to see it",
    )


def describe_run(run: Run) -> str:
    """What a run was about, from its parameters, in one line."""
    of = read_odd_record(StoredSubject, run.parameters)
    named = (("forget", of.forget.name), ("skill", of.skill.name))
    told = [f"{what} {name}" for what, name in named if name]
    told += [of.concept, of.word, of.prompt, of.site, of.norm]
    return " ".join(" · ".join(value for value in told if value).split())[:120]
