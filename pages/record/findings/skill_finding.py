"""Finding of a skill: what its boxes refuse; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.tokens import escape_text
from workbench.skills.evidence import RefusedSet, read_skill_answer


def show_skill(evidence: Mapping[str, Any]) -> None:
    """The shares refused, with intervals; and the tried query, if any."""
    found = read_skill_answer(evidence)
    percent = st.column_config.NumberColumn(format="percent")
    columns = dict.fromkeys(("refused", "from", "to"), percent)
    rows = [_row(one) for one in found.sets]
    st.dataframe(pd.DataFrame(rows), column_config=columns, hide_index=True)
    layers = ", ".join(f"L{layer}" for layer in found.layers)
    part, skill, alpha = (escape_text(str(value)) for value in (found.part, found.skill, found.alpha))
    show_caption(
        f"Share of {part} queries inside the key box of {skill} in {escape_text(layers)} at α = {alpha}, "
        "with 95 % "
        "intervals (Wilson)."
    )
    if found.query is not None:
        side = "inside" if found.query.inside else "outside"
        depth = found.query.depth
        told = "" if depth is None else f": its depth is α = {depth:.3g}"
        st.markdown(f"The query below lies **{side}**{told}.")
        st.text(str(found.prompt))


def open_skill(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same view."""
    found = read_skill_answer(evidence)
    view: dict[str, Any] = {
        state.MODEL: model_name,
        state.SKILL: found.skill,
        state.COMPARED: None if found.compared is None else list(found.compared),
        state.LAYER: f"L{found.layer}",
        state.TOGETHER: "true" if len(found.layers) > 1 else None,
        state.ALPHA: found.alpha,
        state.EXAMPLES: found.limit or None,
        state.SPLIT: found.seed or None,
        state.QUERY: found.prompt,
    }
    show_page_link("Open in Skills", "/skills", icon=":material/school:", **view)


def _row(one: RefusedSet) -> dict[str, object]:
    row: dict[str, object] = {"set": one.set, "queries": one.queries, "refused": one.refused}
    return row | dict(zip(("from", "to"), one.interval or (), strict=False))
