"""Charts of the Experts page: map, sorted maxima, residual curve, router load."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from analysis.figures.experts import (
    ExpertCells,
    ResidualCurve,
    expert_map_figure,
    maxima_figure,
    residual_figure,
)
from analysis.opening.models import LoadedModel
from analysis.super_experts.controls import Part
from analysis.super_experts.criterion import collect_maxima
from analysis.super_experts.profile import BlockRow, ExpertProfile
from analysis.super_experts.residuals import MASSIVE
from analysis.super_experts.verdict import SuperExpertVerdict
from pages.explore.experts.controls import toggle_expert
from pages.shared.layout import CHART, read_selection, show_caption
from pages.shared.tokens import render_token
from workbench.experts.answers import token_at


def show_expert_map(
    loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict, chosen: Sequence[Part]
) -> None:
    """Layer × expert, coloured by the largest output; a click adds or removes an expert."""
    rows = profile.experts or profile.dense
    names = [str(part) for part in chosen]
    texts = [_describe_cell(loaded, row) for row in rows]
    cells = _cells(rows, np.array([row.max_abs for row in rows]), texts)
    supers = [str(row.block.address) for row in verdict.supers]
    figure = expert_map_figure(
        cells, {"super": supers, "chosen": names}, measure="max |down output|", log=True
    )
    st.subheader("Map", anchor=False)
    st.plotly_chart(
        figure,
        key="expert_map",
        on_select=lambda: _toggle_clicked(names),
        selection_mode="points",
        alt="Largest down-projection output by layer and expert",
        config=CHART,
    )
    columns = "Column: expert (E routed, S shared). " if profile.experts else ""
    what = "an expert" if profile.experts else "a block"
    show_caption(
        f"Row: layer. {columns}Colour: its largest output, logarithmic. Ring: super. Cross: "
        f"pruned below; click {what} to add or remove it."
    )


def _cells(rows: Sequence[BlockRow], values: np.ndarray, texts: Sequence[str]) -> ExpertCells:
    addresses = [row.block.address for row in rows]
    columns = ["dense" if a.expert is None else f"{'S' if a.shared else 'E'}{a.expert}" for a in addresses]
    return ExpertCells([a.layer for a in addresses], columns, values, [str(a) for a in addresses], texts)


def _describe_cell(loaded: LoadedModel, row: BlockRow) -> str:
    if row.place is None:
        return f"{row.block.address}: no token was routed to it"
    token = render_token(token_at(loaded, row.place))
    return f"{row.block.address}: {row.max_abs:.4g} at {token}<br>{row.count:,} tokens"


def _toggle_clicked(chosen: list[str]) -> None:
    name = read_selection(st.session_state["expert_map"]).datum
    if name:
        toggle_expert(str(name), chosen)


def show_maxima(profile: ExpertProfile, verdict: SuperExpertVerdict) -> None:
    """All maxima by rank, with the bounds."""
    threshold = verdict.threshold
    rows, sizes = collect_maxima(profile, as_released=threshold.as_released)
    bounds = {
        f"P{threshold.percentile:g}": threshold.percentile_value,
        f"{threshold.ratio:g} × largest": threshold.ratio_value,
    }
    names = [str(row.block.address) for row in rows]
    supers = [str(row.block.address) for row in verdict.supers]
    st.subheader("Sorted maxima", anchor=False)
    figure = maxima_figure(sizes, names, supers, bounds)
    st.plotly_chart(figure, key="sorted_maxima", alt="Largest outputs by rank", config=CHART)
    what = "an expert" if profile.experts else "an FFN block"
    used = "" if threshold.rule == "percentile" else ", which the rule forms does not use"
    show_caption(
        f"Each dot is {what}, largest first; amber: super. Dashed: the percentile rule's bounds{used}."
    )


def show_residual_curve(loaded: LoadedModel, profile: ExpertProfile, verdict: SuperExpertVerdict) -> None:
    """Massive activations through the layers."""
    layers = [row for row in profile.layers if row.first is not None]
    if not layers:
        return
    nan = float("nan")
    curve = ResidualCurve(
        [row.layer for row in layers],
        [row.first.max_abs if row.first else nan for row in layers],
        [row.others.max_abs if row.others else nan for row in layers],
        [row.others.median if row.others else nan for row in layers],
        [row.formed is not None for row in layers],
    )
    st.subheader("Massive activations", anchor=False)
    figure = residual_figure(curve, massive=MASSIVE)
    st.plotly_chart(figure, key="residual_curve", alt="Largest residual values by layer", config=CHART)
    show_caption(
        "The largest |h| of the residual after each layer, at the first token and at all others, and the "
        "median. "
        "Star: the layer's own FFN supplies at least half of a massive activation (above 100, dotted, and "
        f"above 1000 × the median). {_say_massive(profile)}"
    )


def _say_massive(profile: ExpertProfile) -> str:
    """Where something is massive, and where it is formed."""
    after = ", ".join(f"L{row.layer}" for row in profile.layers if row.massive) or "no layer"
    here = ", ".join(f"L{row.layer}" for row in profile.layers if row.formed is not None) or "none"
    return f"Massive after: {after}. Formed in: {here}."


def show_load_map(profile: ExpertProfile) -> None:
    """How many tokens the router sent to each routed expert."""
    rows = [row for row in profile.experts if row.block.routed]
    if not rows:
        return
    shares = np.array([row.count / profile.tokens for row in rows])
    texts = [f"{row.block.address}: {row.count:,} of {profile.tokens:,} tokens" for row in rows]
    st.subheader("Router load", anchor=False)
    figure = expert_map_figure(_cells(rows, shares, texts), {}, measure="share of tokens", log=False)
    st.plotly_chart(figure, key="load_map", alt="Share of tokens by layer and expert", config=CHART)
    show_caption("The share of the text's tokens that each routed expert processed; blank: none.")
