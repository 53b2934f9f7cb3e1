"""The anatomy: one sentence where all layers are alike, a picture of the groups where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from analysis.figures.anatomy import BlockTable, LayerGroup, anatomy_figure, group_layers
from analysis.opening.models import LoadedModel
from pages.shared.layout import show_caption, show_download
from workbench.files import table_csv
from workbench.models import list_blocks
from workbench.neurons.browsing import list_block_kinds
from workbench.records import write_record


def show_anatomy(loaded: LoadedModel) -> None:
    """Sentence, stack and CSV."""
    st.subheader("Anatomy", anchor=False)
    groups = group_layers(BlockTable(*list_block_kinds(loaded.anatomy)))
    st.markdown(_describe(loaded.anatomy.layers, groups))
    st.plotly_chart(anatomy_figure(groups), key="anatomy", alt="The model's layers from the bottom up")
    show_caption(
        "From the bottom up, in the order of the residual stream; what moves information between tokens "
        "(attention, in most models) is not drawn. Opening the model checks that this description "
        "reproduces its own logits."
    )
    rows = [write_record(block) for block in list_blocks(loaded.anatomy)]
    csv = table_csv(list(rows[0]), [list(row.values()) for row in rows])
    show_download("Blocks as CSV", csv, "blocks.csv", key="blocks")


def _describe(layers: int, groups: Sequence[LayerGroup]) -> str:
    """One sentence: what every layer has, or in how many ways layers differ."""
    if len(groups) > 1:
        return f"The {layers:,} layers differ; each box below stands for those that are alike."
    first = groups[0]
    if len(first.layers) < layers:
        return f"{len(first.layers):,} of {layers:,} layers have {first.describe()}; the others have none."
    return (
        f"All {layers:,} layers are alike: each has {first.describe()}."
        if layers > 1
        else f"One layer: {first.describe()}."
    )
