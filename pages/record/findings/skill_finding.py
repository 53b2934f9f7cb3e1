"""Finding of a skill: what its boxes refuse; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.tokens import escape_text


def show_skill(evidence: Mapping[str, Any]) -> None:
    """The shares refused, with intervals; and the tried query, if any."""
    rows = [
        {
            "set": str(row.get("set")),
            "queries": row.get("queries"),
            "refused": row.get("refused"),
            **_ends(row),
        }
        for row in _list(evidence.get("sets"))
        if isinstance(row, Mapping)
    ]
    percent = st.column_config.NumberColumn(format="percent")
    columns = dict.fromkeys(("refused", "from", "to"), percent)
    st.dataframe(pd.DataFrame(rows), column_config=columns, hide_index=True)
    layers = ", ".join(f"L{layer}" for layer in _list(evidence.get("layers")))
    part, skill, alpha = (escape_text(str(evidence.get(name))) for name in ("part", "skill", "alpha"))
    show_caption(
        f"Share of {part} queries inside the key box of {skill} in {escape_text(layers)} at α = {alpha}, "
        "with 95 % "
        "intervals (Wilson)."
    )
    query = evidence.get("query")
    if isinstance(query, Mapping):
        side = "inside" if query.get("inside") else "outside"
        depth = query.get("depth")
        told = f": its depth is α = {depth:.3g}" if isinstance(depth, int | float) else ""
        st.markdown(f"The query below lies **{side}**{told}.")
        st.text(str(evidence.get("prompt")))


def open_skill(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same view."""
    layers, compared = _list(evidence.get("layers")), evidence.get("compared")
    view: dict[str, Any] = {
        state.MODEL: model_name,
        state.SKILL: evidence.get("skill"),
        state.COMPARED: list(map(str, compared)) if isinstance(compared, Mapping) else None,
        state.LAYER: f"L{evidence.get('layer')}",
        state.TOGETHER: "true" if len(layers) > 1 else None,
        state.ALPHA: evidence.get("alpha"),
        state.EXAMPLES: evidence.get("limit") or None,
        state.SPLIT: evidence.get("seed") or None,
        state.QUERY: evidence.get("prompt"),
    }
    show_page_link("Open in Skills", "/skills", icon=":material/school:", **view)


def _ends(row: Mapping[str, Any]) -> dict[str, Any]:
    interval = _list(row.get("interval"))
    return {"from": interval[0], "to": interval[1]} if len(interval) == 2 else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
