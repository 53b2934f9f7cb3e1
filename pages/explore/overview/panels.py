"""The panels of Overview."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.figures.anatomy import BlockTable, anatomy_figure
from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.layout import (
    format_size,
    shorten_model,
    show_caption,
    show_download,
    show_empty,
    show_page_link,
)
from pages.shared.prompts import choose_first_prompt
from pages.shared.resources import get_store, read_open_facts
from pages.shared.tokens import escape_text
from store import Run, list_runs, measure_storage
from workbench.files import table_csv
from workbench.models import block_facts, model_facts
from workbench.neurons.browsing import (
    find_single_token_words,
    list_block_kinds,
    list_decoded_runs,
)
from workbench.neurons.searching import find_word, is_searched

CANDIDATES = ("dog", "cat", "day", "mom", "time", "water", "house", "girl", "the", "and")
"""Candidate words for the guided questions; the first that are single tokens are used."""

RECENT = 8


def show_facts(loaded: LoadedModel) -> None:
    """Facts about the model."""
    facts = read_open_facts() or model_facts(loaded)
    shown: list[tuple[str, str]] = [
        ("Layers", f"{facts['layers']:,}"),
        ("Neurons", f"{facts['neurons']:,}"),
        ("Width", f"{facts['d_model']:,}"),
        ("Vocabulary", f"{facts['vocab']:,}"),
        ("Context", f"{facts['context']:,}"),
        ("Parameters", _count(facts["parameters"])),
        ("Weights", format_size(facts["bytes"])),
    ]
    if facts["experts"]:
        shown.insert(2, ("Experts", f"{facts['experts']:,}"))
    with st.container(horizontal=True):  # which wraps where columns would truncate the numbers
        for label, value in shown:
            st.metric(label, value)
    packed = f" · {escape_text(loaded.weights_format)}" if loaded.weights_format else ""
    tied = " · head tied to embeddings" if facts["tied"] else ""
    disk = "" if loaded.streamed is None else " · weights read from disk, layer by layer"
    unused = facts["padding_rows"] + facts["holes"]
    padding = f" · {unused:,} padding rows of the head left out" if unused else ""
    show_caption(
        f"{escape_text(facts['architecture'])} · {loaded.dtype} on "
        f"{escape_text(str(loaded.device))}{packed}{disk}{tied}{padding}"
        f" · fingerprint `{loaded.fingerprint[:12]}`"
    )


def show_questions(loaded: LoadedModel) -> None:
    """Three questions, each a link with everything filled in."""
    st.subheader("Start with a question", anchor=False)
    words = find_single_token_words(loaded, CANDIDATES, 2)
    asked = [_ask_word] * bool(words) + [_ask_sure] + [_ask_clamp] * (loaded.streamed is None)
    for column, ask in zip(st.columns(len(asked)), asked, strict=True):
        with column, st.container(border=True, height="stretch"):
            ask(loaded, words[0] if words else "")


def _ask_word(loaded: LoadedModel, word: str) -> None:
    st.markdown(f"**Which neurons say “{escape_text(word)}”?**")
    st.caption("All neurons, ranked by how much more than other words they write it (z-score at down).")
    show_page_link("Show them", "/neurons", icon=":material/search:", word=word, site="down", by="z")


def _ask_sure(loaded: LoadedModel, word: str) -> None:
    last = loaded.anatomy.layers - 1
    layers = [str((last + 1) // 2), str(last)] if last else None
    st.markdown("**Which neurons write one word with certainty?**")
    st.caption("Later layers, site down, top token a whole word: largest probability first.")
    show_page_link(
        "Show them", "/neurons", icon=":material/target:", site="down", kinds=["word"], layers=layers
    )


def _ask_clamp(loaded: LoadedModel, word: str) -> None:
    address = _neuron_to_clamp(loaded, word)
    clamp = f"{address}:key:set:-8x@all"
    st.markdown(f"**What changes when {address} is clamped at −8 × its largest activation?**")
    st.caption("Two texts side by side, same seed.")
    show_page_link(
        "Clamp it",
        "/clamp",
        icon=":material/tune:",
        clamps=clamp,
        prompt=choose_first_prompt(loaded.ref.name),
        word=word,
    )


def _neuron_to_clamp(loaded: LoadedModel, word: str) -> str:
    """The neuron with the largest |z| of the word if that is known already, else the last block's first."""
    if word and is_searched(loaded, get_store(), word, "down", "none"):
        return str(find_word(loaded, get_store(), word, limit=1).neurons[0].address)
    return f"{loaded.anatomy.blocks[-1].address}.N0"


def show_anatomy(loaded: LoadedModel) -> None:
    """Layers × blocks."""
    st.subheader("Anatomy", anchor=False)
    st.plotly_chart(
        anatomy_figure(BlockTable(*list_block_kinds(loaded.anatomy))), key="anatomy", alt="Neurons per layer"
    )
    show_caption(
        "From the bottom up, in the order of the residual stream: each bar's length is the layer's number of "
        "feed-forward neurons. Opening the model checks that this description reproduces its own logits."
    )
    rows = block_facts(loaded.anatomy)
    csv = table_csv(list(rows[0]), [list(row.values()) for row in rows])
    show_download("Blocks as CSV", csv, "blocks.csv", key="blocks")


def show_decoded_sites(loaded: LoadedModel) -> None:
    """The decoded sites."""
    st.subheader("Decoded so far", anchor=False)
    runs = list_decoded_runs(loaded, get_store())
    if not runs:
        show_empty(
            "No neuron of this model has been decoded yet. Decoding reads every neuron's vector through the "
            "language-model head, once; every search then uses the stored decoding.",
            lambda: show_page_link("Decode its neurons", "/neurons", icon=":material/scatter_plot:"),
        )
        return
    table = {
        "Site": [run.parameters["site"] for run in runs],
        "Norm": [run.parameters["norm"] for run in runs],
        "dtype": [run.dtype for run in runs],
        "Blocks": [f"{run.stored_units:,} of {run.units:,}" for run in runs],
        "Time (s)": [run.seconds for run in runs],
        "Size": [format_size(run.bytes) for run in runs],
        "Open": [
            state.make_link("/neurons", site=run.parameters["site"], norm=run.parameters["norm"])
            for run in runs
        ],
    }
    config = {
        "Time (s)": st.column_config.NumberColumn(format="%.2f"),
        "Open": st.column_config.LinkColumn(display_text="browse", alignment="left"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config)


def show_recent_runs() -> None:
    """The latest runs of any model."""
    st.subheader("Recent runs", anchor=False)
    runs = list_runs(get_store(), limit=RECENT)
    if not runs:
        show_empty(
            "Nothing has been run yet. Every result is stored, and the same question is then answered at "
            "once."
        )
        return
    table = {
        "Kind": [run.kind for run in runs],
        "Model": [shorten_model(run.model_name) for run in runs],
        "Begun": pd.to_datetime([run.created_at for run in runs], utc=True),
        "Time (s)": [run.seconds for run in runs],
        "Size": [format_size(run.bytes) for run in runs],
        "State": [_state(run) for run in runs],
    }
    config = {
        "Begun": st.column_config.DatetimeColumn(format="distance"),
        "Time (s)": st.column_config.NumberColumn(format="%.2f"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config)


def _state(run: Run) -> str:
    return "finished" if run.finished else f"{run.stored_units:,} of {run.units:,} units"


def show_storage_link() -> None:
    """How much disk space the store takes, with a link to manage it."""
    used = measure_storage(get_store())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"The store takes {format_size(used.file_bytes)}; its disk has "
            f"{format_size(used.free_disk_bytes)} free."
        )
        show_page_link("All runs", "/runs", icon=":material/history:")


def _count(number: int) -> str:
    """`5.0 M`"""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return str(number)
