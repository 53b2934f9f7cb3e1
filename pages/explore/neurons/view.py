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
from pages.explore.neurons.decoding import explain_decoding, load_decoding
from pages.explore.neurons.firing import show_best_texts, show_try_box
from pages.explore.neurons.keeping import offer_keeping
from pages.explore.neurons.lists import ADDRESS, make_neuron_links, show_neuron_table
from pages.shared import state
from pages.shared.decodings import join_top_tokens
from pages.shared.layout import show_caption, show_download, show_method, show_page_link
from pages.shared.reference import ensure_profiled
from pages.shared.resources import get_store
from pages.shared.tokens import show_token
from pages.shared.weights import explain_not_run
from workbench.files import table_csv
from workbench.neurons.browsing import find_nearest_neurons, find_neighbours
from workbench.neurons.profiles import NeuronView, decode_neuron, view_neuron
from workbench.neurons.rows import DecodedNeuron, TokenScore, decode_rows

ONE_GO = 200_000
"""Largest number of neurons searched for the nearest without asking."""

SITE_TITLES: dict[Site, str] = {"up": "up: reads", "gate": "gate: opens for", "down": "down: writes"}
_VIEW, _DECODED = "_neuron_view", "_neuron_tokens"


def show_neuron(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest) -> None:
    """Everything about one neuron. Raises AddressOutOfRange, listing the valid range."""
    if loaded.at_hub is not None and not _is_decoded(loaded, address, asked):
        return
    st.subheader(f"Neuron {address}", anchor=False)
    bar = st.container(horizontal=True, vertical_alignment="center")
    runs = loaded.streamed is None
    with bar:
        _show_steps(loaded, address, asked, runs=runs)
    _show_decodings(address, _decode(loaded, address, asked))
    if runs and not ensure_profiled(loaded):
        return
    view = _view(loaded, address, asked)
    with bar:
        offer_keeping(loaded, view)
    if runs:
        _profile(view)
        shade = _site_choice(view)
        show_best_texts(view, shade)
        show_try_box(loaded, view, shade)
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


def _show_steps(loaded: LoadedModel, address: NeuronAddress, asked: BrowseRequest, *, runs: bool) -> None:
    """Back, previous, next, and the way to Clamp where the model runs."""
    before, after = find_neighbours(loaded.anatomy, address)
    st.button("Back to the list", icon=":material/arrow_back:", on_click=close_neuron)
    _step("Previous", ":material/chevron_left:", before)
    _step("Next", ":material/chevron_right:", after)
    if runs:
        clamp = f"{address}:key:set:-8x@all"
        show_page_link("Clamp it", "/clamp", icon=":material/tune:", clamps=clamp, word=asked.word)


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
        with st.spinner("Computing activations …", show_time=True):
            view = view_neuron(loaded, get_store(), address, norm=asked.norm)
        st.session_state[_VIEW] = (key, view)
    return view


def _show_decodings(address: NeuronAddress, decoded: dict[Site, DecodedNeuron]) -> None:
    """Top and bottom tokens at each site, side by side."""
    for tab, end in zip(st.tabs(["Promotes", "Suppresses"]), ("top", "bottom"), strict=True):
        with tab:
            for column, (site, neuron) in zip(st.columns(len(decoded)), decoded.items(), strict=True):
                with column:
                    _site_table(site, neuron, end)
    show_caption(
        "Best first: each token's logit through the head, and its share p of the softmax over the vocabulary."
    )
    with st.container(horizontal=True):
        csv = _tokens_csv(address, decoded)
        show_download("Tokens as CSV", csv, f"{address}-tokens.csv", key="tokens_csv")
        explain_decoding()


def _site_table(site: Site, neuron: DecodedNeuron, end: str) -> None:
    scores: tuple[TokenScore, ...] = getattr(neuron, end)
    st.markdown(f"**{SITE_TITLES[site]}**")
    table = {
        "token": [show_token(score.token) for score in scores],
        "logit": [score.logit for score in scores],
        "p": [score.probability for score in scores],
    }
    config = {
        "logit": st.column_config.NumberColumn(format="%.2f"),
        "p": st.column_config.NumberColumn(format="%.1e"),
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config, height="content")
    st.caption(f"log Z {neuron.log_z:.2f} · entropy {neuron.entropy:.2f} nats · ‖w‖ {neuron.weight_norm:.2f}")


def _tokens_csv(address: NeuronAddress, decoded: dict[Site, DecodedNeuron]) -> bytes:
    rows = [
        [str(address), site, end, rank, score.token_id, score.token, score.logit, score.probability]
        for site, neuron in decoded.items()
        for end in ("top", "bottom")
        for rank, score in enumerate(getattr(neuron, end), start=1)
    ]
    return table_csv(["address", "site", "end", "rank", "token_id", "token", "logit", "probability"], rows)


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


def _site_choice(view: NeuronView) -> ClampSite:
    st.subheader("Where it fires", anchor=False)
    sites: list[ClampSite] = ["key", "up", "gate"] if view.gated else ["key", "up"]
    return st.selectbox(
        "Shade by",
        sites,
        key=state.SHADE,
        bind="query-params",
        width=200,
        help="key: what enters the down projection. up and gate: the projections before it.",
    )


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
        "address": make_neuron_links(names, asked),
        "cosine": [cosine for _, cosine in found],
        "top tokens": [join_top_tokens(row) for row in rows],
    }
    config = {
        "address": ADDRESS,
        "cosine": st.column_config.NumberColumn(format="%+.3f"),
        "top tokens": st.column_config.TextColumn(width="large"),
    }
    show_neuron_table(table, names, config, key="nearest_table")
    show_caption(f"By cosine of the {site} vectors, over all neurons; negative: opposite direction.")
