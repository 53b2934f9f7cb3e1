"""One neuron: its tokens at each site, its activations, its nearest neurons, and actions."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import streamlit as st

from analysis.anatomy.addresses import NeuronAddress
from analysis.anatomy.anatomy import Site
from analysis.figures.neurons import activation_histogram
from analysis.intervening.clamps import ClampSite
from analysis.opening.models import LoadedModel
from pages.explore.neurons.controls import BrowseRequest, close_neuron, open_neuron
from pages.explore.neurons.decoding import load_decoding
from pages.explore.neurons.dose_panel import show_dose_panel
from pages.explore.neurons.firing import show_best_texts, show_try_box
from pages.explore.neurons.hits import list_hits
from pages.explore.neurons.keeping import offer_keeping
from pages.explore.neurons.lists import show_neuron_table
from pages.explore.neurons.reading import read_reference
from pages.explore.neurons.sites import show_sites
from pages.shared import state
from pages.shared.decodings import join_top_tokens
from pages.shared.layout import show_caption, show_method, show_page_link
from pages.shared.reference import ensure_profiled
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from pages.shared.weights import explain_not_run
from pages.shared.word_effects import make_clamp_view
from store.word_evidence import read_word_evidence
from workbench.levers.asking import ask_neuron_sweep, find_best_value, guess_clamp
from workbench.neurons.browsing import find_nearest_neurons, find_neighbours
from workbench.neurons.profiles import NeuronView, decode_neuron, view_neuron
from workbench.neurons.rows import DecodedNeuron, decode_rows

ONE_GO = 200_000
"""Largest number of neurons searched for the nearest without asking."""

_VIEW, _DECODED = "_neuron_view", "_neuron_tokens"


def show_neuron(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> None:
    """Everything about one neuron. Raises AddressOutOfRange, listing the valid range."""
    if loaded.at_hub is not None and not _is_decoded(loaded, address, asked):
        return
    st.subheader(f"Neuron {address}", anchor=False)
    bar = st.container(horizontal=True, vertical_alignment="center")
    runs = loaded.streamed is None
    decoded = _decode(loaded, address, asked)
    with bar:
        _show_steps(loaded, address, asked)
        if runs:
            _link_to_clamp(loaded, address, asked.word, decoded["down"])
    show_sites(address, decoded)
    if runs:
        show_dose_panel(loaded, address, asked.word, decoded["down"].top[0].token.strip())
    if runs and not ensure_profiled(loaded):
        return
    view = _view(loaded, address, asked)
    with bar:
        offer_keeping(loaded, view)
    if runs:
        _profile(view)
        shade, spaces = _choose_shading(view)
        show_best_texts(view, shade, spaces=spaces)
        show_try_box(loaded, view, shade, spaces=spaces)
    _nearest(loaded, address, asked)
    if not runs:
        explain_not_run(loaded.ref, "Showing where a neuron fires")


def list_view_sites(loaded: LoadedModel, address: NeuronAddress) -> list[Site]:
    """The decodable sites of a neuron's block. Raises AddressOutOfRange, listing the valid range."""
    gated = loaded.anatomy.block(address).gated
    return [site for site in loaded.anatomy.sites if gated or site != "gate"]


def _is_decoded(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> bool:
    """Whether each site is decoded; else the page offers it: at the Hub no vector is at hand alone."""
    sites = list_view_sites(loaded, address)
    return all(load_decoding(loaded, replace(asked, site=site)) is not None for site in sites)


def _show_steps(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> None:
    """Back; previous and next: of the searched word's hits, of all neurons where it is none of them."""
    st.button("Back to the list", icon=":material/arrow_back:", on_click=close_neuron)
    hits = list_hits(loaded, asked)
    if address in hits:
        at = hits.index(address)
        around = hits[at - 1] if at else None, hits[at + 1] if at + 1 < len(hits) else None
        names, told = ("Previous hit", "Next hit"), f"Hit {at + 1} of {len(hits)}"
    else:
        around, names, told = find_neighbours(loaded.anatomy, address), ("Previous", "Next"), ""
    _step(names[0], ":material/chevron_left:", around[0])
    _step(names[1], ":material/chevron_right:", around[1])
    if told:
        st.caption(f"{told} for “{escape_text(asked.word)}”", width="content")


def _link_to_clamp(loaded: LoadedModel, address: NeuronAddress, word: str, writes: DecodedNeuron) -> None:
    """The way to Clamp, at the value measured best for the word, else at ± 1 × residual by its tokens."""
    known = find_best_value(loaded, get_store(), address, word) if word else None
    suppressed = {score.token.strip().casefold() for score in writes.bottom}
    clamp = known or guess_clamp(address, suppresses=bool(word) and word.casefold() in suppressed)
    view = (
        {}
        if not word
        else make_clamp_view(
            read_word_evidence(
                {"document": {"word": word}, "question": ask_neuron_sweep(loaded, address, word).document()}
            ),
            [str(clamp)],
        )
    )
    show_page_link(
        "Clamp it",
        "/clamp",
        icon=":material/tune:",
        help=_MEASURED if known else _GUESSED,
        **{state.CLAMPS: str(clamp)} | view,
    )


_MEASURED = "At the value that raises the word most, of those measured"
_GUESSED = "At ± 1 × residual, the sign by its tokens; the dose curve below measures which value is best"


def _step(label: str, icon: str, address: NeuronAddress | None) -> None:
    name = str(address) if address else ""
    st.button(label, icon=icon, help=name or None, disabled=not name, on_click=open_neuron, args=(name,))


def _decode(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> dict[Site, DecodedNeuron]:
    """The neuron's tokens at each site; the last neuron's are kept in the session."""
    key = (loaded.ref, loaded.fingerprint, address, asked.norm)
    kept, decoded = st.session_state.get(_DECODED, (None, None))
    if decoded is None or kept != key:
        decoded = decode_neuron(loaded, get_store(), address, norm=asked.norm)
        st.session_state[_DECODED] = (key, decoded)
    return dict(decoded)


def _view(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> NeuronView:
    """The neuron's view; the last one is cached in the session, so widget changes compute nothing."""
    key = (loaded.ref, loaded.fingerprint, address, asked.norm)
    kept, view = st.session_state.get(_VIEW, (None, None))
    if view is None or kept != key:
        reading = read_reference(loaded, address, asked) if loaded.streamed is None else None
        view = view_neuron(loaded, get_store(), address, norm=asked.norm, reading=reading)
        st.session_state[_VIEW] = (key, view)
    return view


def _profile(view: NeuronView) -> None:
    """Activations over the whole reference text."""
    st.subheader("On the reference text", anchor=False)
    if view.profile is None:
        st.info("Its expert processed no token of the reference text, so there is no profile.")
        return
    left, right = st.columns([3, 2])
    with left:
        st.plotly_chart(activation_histogram(view.samples, measure="activation at key"), key="histogram")
        show_caption("Number of positions by value of the neuron (key: the input of the down projection).")
    with right:
        st.dataframe(_profile_table(view), height="content", column_config=_PROFILE_CONFIG)
        show_caption(f"Largest |activation| is the unit of a clamp's ×. {_coverage(view)}")
        _profile_method()


_PROFILE_CONFIG = {
    "_index": st.column_config.TextColumn("site"),
    **{
        name: st.column_config.NumberColumn(format="%.3g")
        for name in ("largest", "at position 0", "mean", "deviation")
    },
}


def _profile_table(view: NeuronView) -> pd.DataFrame:
    profile = view.profile or {}
    columns = {
        "largest": [site.largest for site in profile.values()],
        "at position 0": [site.first_largest for site in profile.values()],
        "mean": [site.mean for site in profile.values()],
        "deviation": [site.deviation for site in profile.values()],
    }
    return pd.DataFrame(columns, index=list(profile))


def _coverage(view: NeuronView) -> str:
    share = view.count / view.positions if view.positions else math.nan
    if view.address.block.expert is None or view.address.block.shared:
        return f"{view.count:,} positions."
    return f"Its expert processed {view.count:,} of {view.positions:,} positions ({share:.1%})."


def _profile_method() -> None:
    paper = "Massive activations at the first token: Sun et al. 2024, arXiv 2402.17762"
    show_method("How it is measured", PROFILE, paper)


PROFILE = r"""
The bundled reference text is read in windows of at most 256 tokens. *key*
$= \mathrm{act}(g) \cdot u$ enters the down projection; *up* $= u$ and *gate* $= g$ are before it. Position 0
is excluded and shown separately: many models have activations there that are thousands of times larger than
elsewhere, which would make × meaningless.
"""


def _choose_shading(view: NeuronView) -> tuple[ClampSite, bool]:
    """The site that shades the tokens, and whether leading spaces are shown as ␣."""
    st.subheader("Where it fires", anchor=False)
    sites: list[ClampSite] = ["key", "up", "gate"] if view.gated else ["key", "up"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        site = st.selectbox(
            "Shade by",
            sites,
            key=state.SHADE,
            bind="query-params",
            width=200,
            help="key: what enters the down projection. up and gate: the projections before it.",
        )
        spaces = st.toggle("Spaces as ␣", key=state.SPACES, bind="query-params")
    return site, spaces


def _nearest(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> None:
    """The neurons with the most similar vectors."""
    st.subheader("Nearest neurons", anchor=False)
    site = asked.site if asked.site in list_view_sites(loaded, address) else "up"
    takes_long = loaded.anatomy.neurons > ONE_GO or loaded.streamed is not None
    if takes_long and not st.button("Find them", icon=":material/radar:", key="nearest"):
        st.caption(f"Compares the {site} vector with those of all {loaded.anatomy.neurons:,} neurons.")
        return
    found = find_nearest_neurons(loaded, address, site=site, norm=asked.norm)
    rows = decode_rows(loaded, get_store(), [other for other, _ in found], site=site, norm=asked.norm)
    names = [str(other) for other, _ in found]
    table = {
        "cosine": [cosine for _, cosine in found],
        "top tokens": [join_top_tokens(row) for row in rows],
    }
    config = {
        "cosine": st.column_config.NumberColumn(format="%+.3f"),
        "top tokens": st.column_config.TextColumn(width="large"),
    }
    show_neuron_table(table, names, config, key="nearest_table")
    show_caption(f"By cosine of the {site} vectors, over all neurons; negative: opposite direction.")
