"""Query panel: whether a query is inside the box of each layer, and which neurons decide."""

from __future__ import annotations

import streamlit as st

from analysis.figures.skills import depth_figure
from analysis.opening.models import LoadedModel
from analysis.unlearning.guards.key_boxes import SLACK
from analysis.unlearning.guards.key_spaces import KeySpace, TriedQuery
from pages.intervene.skills.view import View
from pages.shared import state
from pages.shared.errors import show_errors
from pages.shared.layout import CHART, show_caption, show_download
from pages.shared.resources import get_store
from pages.shared.tokens import escape_text
from workbench.files import table_csv
from workbench.skills.key_space import try_stored_query

_LAST = "_skill_query_tried"
_NEURON = st.column_config.LinkColumn("Neuron", display_text=r"[?&]neuron=([^&]+)", alignment="left")


def show_query_box(loaded: LoadedModel, space: KeySpace, view: View, run: str) -> TriedQuery | None:
    """The input, and the result for the query in it."""
    st.subheader("Try a query", anchor=False)
    text = st.text_area(
        "Query",
        key=state.QUERY,
        bind="query-params",
        height=90,
        placeholder="Type a question, then press Ctrl+Enter. It is formatted like the skill's prompts.",
    )
    if not text.strip():
        show_caption(
            f"Whether it is inside or outside, by how much, and which neurons of L{view.layer} decide."
        )
        return None
    tried = None
    with show_errors():
        tried = _try_query(loaded, run, text)
        _verdict(space, view, tried)
        _numbers(view, tried)
    return tried


def _try_query(loaded: LoadedModel, run: str, text: str) -> TriedQuery:
    """Run the model once per query, whatever else changes on the page."""
    asked = (loaded.ref, run, text)
    last, tried = st.session_state.get(_LAST, (None, None))
    if tried is None or last != asked:
        tried = try_stored_query(loaded, get_store(), run, text)
        st.session_state[_LAST] = asked, tried
    return tried


def _verdict(space: KeySpace, view: View, tried: TriedQuery) -> None:
    depth = max(tried.depth[layer] for layer in view.layers)
    inside = depth <= view.alpha * SLACK
    side = "Inside" if inside else "Outside"
    what = "a guard would refuse it" if inside else "a guard would let it pass"
    st.markdown(
        f":material/{'shield' if inside else 'arrow_forward'}: **{side}** {view.boxes} of "
        f"{escape_text(space.names[0])}: {what}. It is inside from α = {depth:.3g}."
    )


def _numbers(view: View, tried: TriedQuery) -> None:
    layers = list(tried.depth)
    left, right = st.columns(2)
    with left:
        names, depths = [f"L{layer}" for layer in layers], [tried.depth[layer] for layer in layers]
        inside = [depth <= view.alpha * SLACK for depth in depths]
        figure = depth_figure(names, depths, inside, alpha=view.alpha)
        st.plotly_chart(figure, key="skill_depths", alt="Depth of the query by layer", config=CHART)
        show_caption(
            "The query's depth in each layer: the smallest α whose box holds it. Line: α; filled: inside."
        )
    with right:
        rows = [
            {
                "neuron": state.make_link("/neurons", neuron=f"L{view.layer}.N{neuron}"),
                "out": out / view.alpha,
            }
            for neuron, out in tried.deciding[view.layer]
        ]
        share = st.column_config.NumberColumn(
            "× half width", format="%.3g", help="|x − μ| / (α·k·σ): above 1 it is outside along this neuron"
        )
        st.dataframe(rows, column_config={"neuron": _NEURON, "out": share}, hide_index=True, height=250)
        show_caption(f"The neurons of L{view.layer} in which it is furthest out, at α = {view.alpha:g}.")
    show_download("Query as CSV", lambda: _csv(tried), "skill-query.csv", key="query_csv")


def _csv(tried: TriedQuery) -> bytes:
    rows = [
        [f"L{layer}", depth, f"L{layer}.N{neuron}", out]
        for layer, depth in tried.depth.items()
        for neuron, out in tried.deciding[layer]
    ]
    return table_csv(["layer", "depth", "neuron", "share_of_half_width_at_alpha_1"], rows)
