"""Finding of unlearning: before and after per method and skill; missing or odd fields are tolerated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from analysis.unlearning.methods import name_method
from pages.shared import state
from pages.shared.layout import show_caption, show_page_link
from pages.shared.links.questions import make_unlearn_view
from pages.shared.tokens import escape_text
from pages.shared.verdicts.methods import show_measures
from store.unlearning_evidence import MethodVerdict, read_method_verdicts
from workbench.unlearning.method_verdicts import judge_document


def read_verdicts(evidence: Mapping[str, Any]) -> tuple[MethodVerdict, ...]:
    """The methods' verdicts; of evidence of earlier versions made from its numbers, where it has enough."""
    methods = _list(_map(evidence.get("document")).get("methods"))
    judged = [judge_document(_map(method)) for method in methods]
    return read_method_verdicts({"document": {"methods": judged}})


def show_unlearning(evidence: Mapping[str, Any]) -> None:
    """What was measured of each method, and its effect on each skill."""
    for verdict in read_verdicts(evidence):
        show_measures(verdict)
    document = _map(evidence.get("document"))
    rows = [
        {
            "method": name_method(str(method.get("method"))),
            "skill": str(skill.get("skill")),
            "role": str(skill.get("role")),
            **{name: skill.get(name) for name in ("n", "before", "after")},
            "relative drop": skill.get("relative_drop"),
            **dict(zip(("from", "to"), _list(skill.get("interval")), strict=False)),
        }
        for method in map(_map, _list(document.get("methods")))
        for skill in map(_map, _list(method.get("skills")))
    ]
    number = st.column_config.NumberColumn(format="%.3f")
    columns = dict.fromkeys(("before", "after", "relative drop", "from", "to"), number)
    st.dataframe(pd.DataFrame(rows), column_config=columns, hide_index=True)
    show_caption(
        f"Accuracy on the test with the forget skill **{escape_text(str(document.get('forget')))}**; the "
        "relative drop with its 95 % interval."
    )


def open_unlearning(evidence: Mapping[str, Any], model_name: str) -> None:
    """A link to the same question."""
    view = {state.MODEL: model_name, **make_unlearn_view(_map(evidence.get("question")))}
    show_page_link("Open in Unlearn", "/unlearn", icon=":material/backspace:", **view)


def _map(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
