"""The map: a button that decodes every neuron at every site in the background, and the maps there are."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from analysis.opening.models import LoadedModel
from pages.shared import state
from pages.shared.errors import toast_errors
from pages.shared.jobs.timing import estimate_decoding
from pages.shared.jobs.waiting import is_under_way
from pages.shared.layout import format_size, show_caption
from pages.shared.links.stored import StoredMap
from pages.shared.resources import get_jobs, get_store
from workbench.neurons.browsing import list_decoded_runs
from workbench.neurons.mapping import order_map, plan_map
from workbench.records import read_odd_record


def offer_map(loaded: LoadedModel) -> None:
    """*Map this model* with the minutes it takes; nothing where every site is mapped."""
    plan = plan_map(loaded, get_store())
    if not plan.sites:
        return
    orders = order_map(loaded, get_store(), plan)
    working = any(is_under_way(order) for order in orders)
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            f"Map this model ({estimate_decoding(loaded, plan.neurons)})",
            icon=":material/map:",
            key="map_model",
            disabled=working,
            help="Decodes every neuron through the language-model head, in the background; stored, so it is "
            "done once. Searches work without it.",
        )
        st.caption(
            f"{plan.neurons:,} vectors at {', '.join(plan.sites)}"
            + (": the job is at the left, and every page stays usable." if working else "")
        )
    if pressed:
        with toast_errors():
            for order in orders:
                get_jobs().submit(order)
            st.rerun()


def show_maps(loaded: LoadedModel) -> None:
    """The stored maps of this model, complete or begun, each with a link."""
    runs = list_decoded_runs(loaded, get_store())
    if not runs:
        return
    asked = [read_odd_record(StoredMap, run.parameters) for run in runs]
    table = {
        "Site": [one.site for one in asked],
        "Norm": [one.norm for one in asked],
        "dtype": [run.dtype for run in runs],
        "Blocks": [f"{run.stored_units:,} of {run.units:,}" for run in runs],
        "Time (s)": [run.seconds for run in runs],
        "Size": [format_size(run.bytes) for run in runs],
        "Open": [state.make_link("/neurons", site=one.site, norm=one.norm) for one in asked],
    }
    config = {
        "Time (s)": st.column_config.NumberColumn(format="%.2f"),
        "Open": st.column_config.LinkColumn(display_text="browse", alignment="left"),
    }
    with st.expander(f"Stored maps ({len(runs)})", icon=":material/table:"):
        st.dataframe(pd.DataFrame(table), hide_index=True, column_config=config)
        show_caption("up: what a neuron reads. gate: what opens it. down: what it writes.")
