"""The panels of Overview."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.anatomy import BlockTable, anatomy_figure
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.decodings import SMALL
from pages.shared.layout import caption, download, empty, page_link, short, size
from pages.shared.prompts import first_prompt
from pages.shared.resources import open_facts, store
from pages.shared.tokens import plain
from store import Run, list_runs, storage_used
from workbench.files import table_csv
from workbench.models import block_facts, model_facts
from workbench.neurons.browsing import block_kinds, decoded_runs, decoding_state, single_token_words
from workbench.neurons.decoding import find_word

CANDIDATES = ("dog", "cat", "day", "mom", "time", "water", "house", "girl", "the", "and")
"""Words a guided question may ask for; the first that are one token of the model are taken."""

RECENT = 8


def facts_shown(loaded: LoadedModel) -> None:
    """The model in numbers."""
    facts = open_facts() or model_facts(loaded)
    shown: list[tuple[str, str]] = [
        ("Layers", f"{facts['layers']:,}"),
        ("Neurons", f"{facts['neurons']:,}"),
        ("Width", f"{facts['d_model']:,}"),
        ("Vocabulary", f"{facts['vocab']:,}"),
        ("Context", f"{facts['context']:,}"),
        ("Parameters", _count(facts["parameters"])),
        ("Weights", size(facts["bytes"])),
    ]
    if facts["experts"]:
        shown.insert(2, ("Experts", f"{facts['experts']:,}"))
    with st.container(horizontal=True):  # which wraps where columns would cut the numbers
        for label, value in shown:
            st.metric(label, value)
    tied = " · head tied to embeddings" if facts["tied"] else ""
    disk = "" if loaded.streamed is None else " · weights read from disk, layer by layer"
    padding = (
        f" · {facts['padding_rows']:,} padding rows of the head left out" if facts["padding_rows"] else ""
    )
    caption(
        f"{plain(facts['architecture'])} · {loaded.dtype} on {plain(str(loaded.device))}{disk}{tied}{padding}"
        f" · fingerprint `{loaded.fingerprint[:12]}`"
    )


def guided_questions(loaded: LoadedModel) -> None:
    """Three questions, each a link with everything filled in."""
    st.subheader("Begin with a question", anchor=False)
    words = single_token_words(loaded, CANDIDATES, 2)
    asked = [_ask_word] * bool(words) + [_ask_sure] + [_ask_hold] * (loaded.streamed is None)
    for column, ask in zip(st.columns(len(asked)), asked, strict=True):
        with column, st.container(border=True, height="stretch"):
            ask(loaded, words[0] if words else "")


def _ask_word(loaded: LoadedModel, word: str) -> None:
    st.markdown(f"**Which neurons say “{plain(word)}”?**")
    st.caption("All neurons, ranked by how much of the word is in what their vector says.")
    page_link("Show them", "/neurons", icon=":material/search:", word=word)


def _ask_sure(loaded: LoadedModel, word: str) -> None:
    last = loaded.anatomy.layers - 1
    layers = [str((last + 1) // 2), str(last)] if last else None
    st.markdown("**Which neurons write one word for sure?**")
    st.caption("Later layers, what they write, best token a whole word: surest first.")
    page_link("Show them", "/neurons", icon=":material/target:", site="down", kinds=["word"], layers=layers)


def _ask_hold(loaded: LoadedModel, word: str) -> None:
    address = _neuron_to_hold(loaded, word)
    clamp = f"{address}:key:set:-8x@all"
    st.markdown(f"**What changes when {address} is held at −8 × its largest activation?**")
    st.caption("Two texts side by side, same seed.")
    page_link(
        "Hold it",
        "/clamp",
        icon=":material/tune:",
        clamps=clamp,
        prompt=first_prompt(loaded.ref.name),
        word=word,
    )


def _neuron_to_hold(loaded: LoadedModel, word: str) -> str:
    """The neuron that says the word most where finding it takes no time, else the last block's first."""
    for site in ("down", "up") if word and loaded.anatomy.neurons < SMALL else ():
        if decoding_state(loaded, store(), site, "none").finished:
            return str(find_word(loaded, store(), word, site=site, limit=1).neurons[0].address)
    return f"{loaded.anatomy.blocks[-1].address}.N0"


def anatomy_picture(loaded: LoadedModel) -> None:
    """Layers × blocks."""
    st.subheader("Anatomy", anchor=False)
    st.plotly_chart(
        anatomy_figure(BlockTable(*block_kinds(loaded.anatomy))), key="anatomy", alt="Neurons per layer"
    )
    caption(
        "Read from the bottom up, as the residual stream passes the layers: each bar is as long as the layer "
        "has feed-forward neurons. Opening the model checks that this description reproduces its own logits."
    )
    rows = block_facts(loaded.anatomy)
    csv = table_csv(list(rows[0]), [list(row.values()) for row in rows])
    download("Blocks as CSV", csv, "blocks.csv", key="blocks")


def mapped(loaded: LoadedModel) -> None:
    """Which sites are decoded."""
    st.subheader("Mapped so far", anchor=False)
    runs = decoded_runs(loaded, store())
    if not runs:
        empty(
            "No neuron of this model has been decoded yet. Decoding reads every neuron's vector through the "
            "language-model head, once; afterwards every search is answered from the store.",
            lambda: page_link("Decode its neurons", "/neurons", icon=":material/scatter_plot:"),
        )
        return
    table = {
        "Site": [run.parameters["site"] for run in runs],
        "Norm": [run.parameters["norm"] for run in runs],
        "Number format": [run.dtype for run in runs],
        "Blocks": [f"{run.stored_units:,} of {run.units:,}" for run in runs],
        "Time (s)": [run.seconds for run in runs],
        "Size": [size(run.bytes) for run in runs],
        "Open": [
            state.link("/neurons", site=run.parameters["site"], norm=run.parameters["norm"]) for run in runs
        ],
    }
    config = {
        "Time (s)": st.column_config.NumberColumn(format="%.2f"),
        "Open": st.column_config.LinkColumn(display_text="browse", alignment="left"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config)


def recent_runs() -> None:
    """The last few runs of any model."""
    st.subheader("Recent runs", anchor=False)
    runs = list_runs(store(), limit=RECENT)
    if not runs:
        empty(
            "Nothing has been run yet. Every result is kept, and asked again it is answered from the store."
        )
        return
    table = {
        "Kind": [run.kind for run in runs],
        "Model": [short(run.model_name) for run in runs],
        "Begun": pd.to_datetime([run.created_at for run in runs], utc=True),
        "Time (s)": [run.seconds for run in runs],
        "Size": [size(run.bytes) for run in runs],
        "State": [_state(run) for run in runs],
    }
    config = {
        "Begun": st.column_config.DatetimeColumn(format="distance"),
        "Time (s)": st.column_config.NumberColumn(format="%.2f"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config)


def _state(run: Run) -> str:
    return "finished" if run.finished else f"{run.stored_units:,} of {run.units:,} units"


def storage() -> None:
    """How much room everything takes, and where it is managed."""
    used = storage_used(store())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"The store takes {size(used.file_bytes)}; its disk has {size(used.free_disk_bytes)} free."
        )
        page_link("All runs", "/runs", icon=":material/history:")


def _count(number: int) -> str:
    """`5.0 M`"""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)
