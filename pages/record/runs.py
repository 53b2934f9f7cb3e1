"""Everything that was computed: what it asked, how far it came, what it takes; deleted and made room for."""

import streamlit as st

from pages.record.parts.finding import when
from pages.shared import state
from pages.shared.errors import shown_errors
from pages.shared.layout import caption, duration, empty, page_header, page_link, short, size
from pages.shared.resources import store
from pages.shared.tokens import plain
from workbench.storage import Run, delete_run, free_space, get_run, list_runs, storage_used

AT_MOST = 1000
_TABLE, _CHOSEN = "_runs_table", "_runs_chosen"
MAKERS = {
    "decode": ("/neurons", "Neurons"),
    "find": ("/neurons", "Neurons"),
    "profile": ("/neurons", "Neurons"),
    "generate": ("/clamp", "Clamp"),
}
"""Kind of run → the page that makes such runs."""


def storage() -> None:
    """What the database takes, and the button that gives back what deleted runs left."""
    used = storage_used(store())
    with st.container(horizontal=True):  # which wraps where columns would cut the numbers
        st.metric("Database file", size(used.file_bytes), border=True)
        st.metric("Results in it", size(sum(used.kind_bytes.values())), border=True)
        st.metric("Can be given back", size(used.reclaimable_bytes), border=True)
        st.metric("Free on this disk", size(used.free_disk_bytes), border=True)
    kinds = " · ".join(f"{plain(kind)} {size(count)}" for kind, count in used.kind_bytes.items())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Free space",
            icon=":material/compress:",
            on_click=shrink,
            disabled=not used.reclaimable_bytes,
            help="Shrinks the file to what it holds; needs as much free disk for a moment.",
        )
        path = plain(str(store().path))
        st.caption(f"By kind: {kinds}  \n{path}" if kinds else path)


def shrink() -> None:
    """Give unused room back to the disk, and say how much it was."""
    with shown_errors():
        st.toast(f"{size(free_space(store()))} given back", icon=":material/compress:")


def filtered() -> list[Run]:
    """The runs of the chosen kind and model, newest first."""
    runs = list_runs(store(), limit=AT_MOST)
    kind_column, model_column = st.columns(2)
    kinds, models = sorted({run.kind for run in runs}), list(dict.fromkeys(run.model_name for run in runs))
    kind = kind_column.selectbox(
        "Kind", kinds, index=None, key=state.KIND, bind="query-params", placeholder="All kinds"
    )
    name = model_column.selectbox(
        "Made with", models, index=None, key="of", bind="query-params", placeholder="All models"
    )
    return [run for run in runs if kind in (None, run.kind) and name in (None, run.model_name)]


def table(runs: list[Run]) -> None:
    """One row per run; a click on one opens it below."""
    rows = {
        "kind": [run.kind for run in runs],
        "about": [about(run) for run in runs],
        "model": [short(run.model_name) for run in runs],
        "done": [run.stored_units / run.units for run in runs],
        "parts": [f"{run.stored_units}/{run.units}" for run in runs],
        "seconds": [run.seconds for run in runs],
        "kB": [run.bytes / 1000 for run in runs],
        "created": [when(run.created_at) for run in runs],
    }
    column = st.column_config
    st.dataframe(
        rows,
        hide_index=True,
        key=_TABLE,
        on_select=lambda: pick(runs),
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
    caption(f"{more} Mark a row to see its parameters below. Seconds are of work, kB what its results take.")


def pick(runs: list[Run]) -> None:
    """Open the run whose row was marked."""
    marked = st.session_state[_TABLE]["selection"]["rows"]
    if marked and marked[0] < len(runs):
        st.query_params[state.RUN] = runs[marked[0]].key


def chosen_run(runs: list[Run]) -> str | None:
    """The run to show, which the URL names; chosen by its name here, or by its row above."""
    names = {run.key: f"{run.kind} · {about(run) or short(run.model_name)} · {run.key[:8]}" for run in runs}
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


def about(run: Run) -> str:
    """What a run was about, from its parameters, in one line."""
    told = [run.parameters.get(name) for name in ("prompt", "site", "norm")]
    return " ".join(" · ".join(str(value) for value in told if value not in (None, "")).split())[:120]


def details(run: Run) -> None:
    """One run: its question, versions, what is missing, and the way to delete it."""
    st.subheader(f"{plain(run.kind)} · {plain(short(run.model_name))}", anchor=False)
    st.progress(run.stored_units / run.units, f"{run.stored_units} of {run.units} parts stored")
    path, page = MAKERS.get(run.kind, ("/", "the page that made it"))
    if not run.finished:
        st.info(
            f"It stopped before its end. Open {page} with this model and ask for the same: "
            "it goes on from there."
        )
        page_link(f"Open {page}", path, icon=":material/play_arrow:", **{state.MODEL: run.model_name})
    st.caption(
        f"Key `{run.key}` · made {when(run.created_at)} · {duration(run.seconds)} of work "
        f"· {size(run.bytes)} · {plain(run.dtype)} on {plain(run.device)} "
        f"· seed {'–' if run.seed is None else run.seed} "
        f"· method version {plain(run.method_version)}"
    )
    parameters, versions = st.columns([2, 1])
    with parameters:
        st.markdown("**Parameters**")
        st.json(run.parameters)
    with versions:
        st.markdown("**Made with**")
        st.json(run.versions)
    with st.popover("Delete this run", icon=":material/delete:"):
        st.markdown(
            "Its results are deleted for good; findings that were kept of it stay, with all their evidence."
        )
        st.button("Delete it", type="primary", on_click=remove, args=(run.key,))


def remove(key: str) -> None:
    """Delete a run and go back to the list."""
    with shown_errors():
        delete_run(store(), key)
        st.query_params.pop(state.RUN, None)
        st.toast("The run is deleted", icon=":material/delete:")


page_header("Runs", "What was computed here, and how much room does it take?")
with shown_errors():
    storage()
    runs = filtered()
    if runs:
        table(runs)
        key = chosen_run(runs)
        if key:
            details(get_run(store(), key))
    elif list_runs(store(), limit=1):
        empty("No run is of this kind and model. Take one of the two filters away.")
    else:
        empty(
            "Nothing was computed yet. Look for a word on **Neurons**, or generate on **Clamp**: every "
            "result is kept here, so that the same question is answered at once.",
            lambda: page_link("Search the neurons", "/neurons", icon=":material/search:"),
            lambda: page_link("Clamp a neuron", "/clamp", icon=":material/tune:"),
        )
